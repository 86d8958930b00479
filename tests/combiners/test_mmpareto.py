"""MMPareto per encoder, as the paper has it, in one line of `compile()`."""

import keras
import numpy as np
from keras import layers
from keras import ops

import keras_mimo

SIZES = {"sound": 5, "image": 3, "text": 4}
CLASSES, WIDTH = 4, 6


def problem():
    rng = np.random.default_rng(3)
    x = {name: rng.normal(size=(32, s)) for name, s in SIZES.items()}
    y = rng.integers(CLASSES, size=32)
    return {name: v.astype("float32") for name, v in x.items()}, y


def build():
    encoders = {
        name: keras.Sequential(
            [keras.Input((size,)), layers.Dense(WIDTH, use_bias=False)]
        )
        for name, size in SIZES.items()
    }
    model = keras_mimo.late_fusion(encoders, CLASSES, fusion="concat")
    # Backends draw different numbers from the same seed.
    rng = np.random.default_rng(10)
    for variables in variables_of(model).values():
        for variable in variables:
            variable.assign(rng.normal(size=variable.shape) / 2)
    return model


def variables_of(model):
    """The kernels of encoders and heads, and the heads' biases, by name."""
    heads = {f"head {name}": f"{name}_head" for name in SIZES}
    layer_names = {name: f"{name}_encoder" for name in SIZES}
    layer_names |= {**heads, "head fused": "fused"}
    return {n: model.get_layer(x).variables for n, x in layer_names.items()}


def weights_of(model):
    return {
        name: [np.array(ops.convert_to_numpy(v), "float64") for v in variables]
        for name, variables in variables_of(model).items()
    }


def by_hand(weights, x, y):
    """The update, and which of the encoders are in conflict."""
    features = {n: x[n].astype("float64") @ weights[n][0] for n in SIZES}
    inputs = {**features, "fused": np.concatenate(list(features.values()), 1)}
    slopes, update = {}, {}
    for name, values in inputs.items():
        kernel, bias = weights[f"head {name}"]
        logits = values @ kernel + bias
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        delta = (scores - np.eye(CLASSES)[y]) / len(y)
        slopes[name] = delta @ kernel.T
        # A head is reached by one loss alone: the plain sum.
        update[f"head {name}"] = [values.T @ delta, delta.sum(axis=0)]
    conflicts = {}
    parts = np.split(slopes["fused"], len(SIZES), axis=1)
    for name, of_fused in zip(SIZES, parts, strict=True):
        fused, own = x[name].T @ of_fused, x[name].T @ slopes[name]
        share = 0.5
        conflicts[name] = np.sum(fused * own) < 0
        if conflicts[name]:
            apart = own - fused
            share = np.clip(np.sum(apart * own) / np.sum(apart**2), 0, 1)
        h = 2 * share * fused + 2 * (1 - share) * own
        longer = np.linalg.norm(fused + own) / np.linalg.norm(h)
        update[name] = [1.5 * longer * h]
    return update, conflicts


def test_per_encoder_by_hand():
    x, y = problem()
    model = build()
    model.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.combiners.MMParetoCombiner(),
        blocks=model.encoder_variables,
    )
    before = weights_of(model)
    model.train_on_batch(x, y)
    after = weights_of(model)
    update, conflicts = by_hand(before, x, y)
    # Both cases of the paper.
    assert set(conflicts.values()) == {True, False}
    for name, expected in update.items():
        for a, b, step in zip(before[name], after[name], expected, strict=True):
            np.testing.assert_allclose(a - b, step, atol=2e-6)
