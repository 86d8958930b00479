"""Samples that lack a modality, in training, in evaluation and when served."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.layers import GatedFusion

CLASSES = 3
BATCH = 8
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FUSIONS = {
    "sum": lambda **o: keras_mimo.late_fusion(encoders(), CLASSES, **o),
    "gated": lambda **o: keras_mimo.late_fusion(
        encoders(), CLASSES, fusion=GatedFusion(5), **o
    ),
    "intermediate": lambda **o: keras_mimo.intermediate_fusion(
        encoders(), CLASSES, trunk=layers.Dense(6, activation="tanh"), **o
    ),
}


def encoders():
    return {
        name: keras.Sequential(
            [keras.Input((width,)), layers.Dense(4, activation="tanh")]
        )
        for name, width in (("scan", 6), ("blood", 5))
    }


def patients(samples=24):
    """A third lacks the scan, a few the blood test, none both."""
    rng = np.random.default_rng(0)
    x = {
        "scan": rng.normal(size=(samples, 6)).astype("float32"),
        "blood": rng.normal(size=(samples, 5)).astype("float32"),
    }
    x["scan"][::3] = np.nan
    x["blood"][1::7] = np.nan
    x["blood"][::3] = rng.normal(size=x["blood"][::3].shape)
    return x, rng.integers(0, CLASSES, samples)


def there(x):
    return {name: ~np.isnan(value).all(axis=1) for name, value in x.items()}


def mean_crossentropy(logits, y, kept):
    log_p = ops.log_softmax(logits, axis=-1)
    terms = -ops.sum(ops.one_hot(y, CLASSES) * log_p, axis=-1)
    kept = ops.convert_to_tensor(kept.astype("float32"))
    return ops.sum(terms * kept) / ops.maximum(ops.sum(kept), 1.0)


def by_hand(model, x, y, rate):
    """A step of gradient descent on the sum fusion, written out.

    Of each modality, it sees the samples that have it.
    """
    parts = {
        name: (
            model.get_layer(f"{name}_encoder"),
            model.get_layer(f"{name}_head"),
            np.flatnonzero(kept),
        )
        for name, kept in there(x).items()
    }
    variables = model.trainable_variables

    def loss():
        fused, total = 0.0, 0.0
        for name, (encoder, head, rows) in parts.items():
            logits = head(encoder(ops.convert_to_tensor(x[name][rows])))
            place = np.eye(len(y), dtype="float32")[:, rows]
            fused = fused + ops.matmul(ops.convert_to_tensor(place), logits)
            total = total + mean_crossentropy(
                logits, y[rows], np.ones(len(rows))
            )
        return total + mean_crossentropy(fused, y, np.ones(len(y)))

    for variable, gradient in zip(
        variables, gradients_of(loss, variables), strict=True
    ):
        variable.assign(ops.convert_to_tensor(variable) - rate * gradient)


def gradients_of(loss, variables):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, [v.value for v in variables])
    if backend == "torch":
        import torch

        return torch.autograd.grad(loss(), [v.value for v in variables])
    import jax

    def of_values(values):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return loss()

    return jax.grad(of_values)([v.value for v in variables])


def test_training_equals_a_loop_that_drops_what_is_missing():
    x, y = patients()
    model = FUSIONS["sum"](missing=True)
    twin = FUSIONS["sum"](missing=True)
    twin.set_weights(model.get_weights())
    model.compile(keras.optimizers.SGD(0.1), CROSSENTROPY, combiner="sum")
    model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    for _ in range(2):
        for start in range(0, len(y), BATCH):
            rows = slice(start, start + BATCH)
            batch = {name: value[rows] for name, value in x.items()}
            by_hand(twin, batch, y[rows], 0.1)
    for actual, expected in zip(
        model.get_weights(), twin.get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_missing_in_training_evaluation_and_files(fusion, tmp_path):
    x, y = patients()
    present = there(x)
    model = FUSIONS[fusion](missing={"scan": None, "blood": float("nan")})
    model.compile("adam", CROSSENTROPY, metrics=["accuracy"], combiner="mgda")
    history = model.fit(x, y, batch_size=BATCH, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in model.get_weights())

    outputs = model.predict(x, verbose=0)
    logs = model.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    for name, kept in {**present, "fused": np.ones(24, "bool")}.items():
        assert not outputs[name][~kept].any()
        loss = ops.convert_to_numpy(mean_crossentropy(outputs[name], y, kept))
        np.testing.assert_allclose(logs[f"{name}_loss"], loss, rtol=1e-5)
        right = outputs[name].argmax(-1) == y
        np.testing.assert_allclose(
            logs[f"{name}_accuracy"], right[kept].mean(), rtol=1e-5
        )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    plain = keras_mimo.inference_model(model)
    own = [
        layer
        for layer in plain._flatten_layers()
        if type(layer).__module__.startswith("keras_mimo")
    ]
    assert own == []
    plain.save(tmp_path / "plain.keras")
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    for fused in (
        loaded.predict(x, verbose=0)["fused"],
        plain.predict(x, verbose=0),
    ):
        np.testing.assert_allclose(fused, outputs["fused"], atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_missing_has_no_say(fusion):
    """The fused output without the scan is that of the blood test alone."""
    x, _ = patients()
    model = FUSIONS[fusion](missing=True)
    for modality in ("scan", "blood"):
        # The learnt vectors start as zeros, as if nothing had been learnt.
        for layer in model.layers:
            if layer.name == f"{modality}_absent":
                layer.set_weights([np.full((1, 4), 0.7, "float32")])
    outputs = model.predict(x, verbose=0)
    lacks = ~there(x)["scan"]
    if fusion != "gated":
        np.testing.assert_allclose(
            outputs["fused"][lacks], outputs["blood"][lacks], atol=1e-6
        )
    changed = {**x, "scan": np.where(lacks[:, None], np.nan, x["scan"] + 1.0)}
    again = model.predict(changed, verbose=0)["fused"]
    np.testing.assert_array_equal(again[lacks], outputs["fused"][lacks])
    assert (again[~lacks] != outputs["fused"][~lacks]).any()


def test_an_objective_that_no_sample_has_is_absent():
    x, y = patients()
    nobody = {
        "scan": np.full_like(x["scan"], np.nan),
        "blood": np.nan_to_num(x["blood"]),
    }
    model = FUSIONS["sum"](missing=True)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), CROSSENTROPY, combiner="mimo"
    )
    parts = {
        name: [
            model.get_layer(f"{name}_{part}") for part in ("encoder", "head")
        ]
        for name in ("scan", "blood")
    }

    def weights(name):
        return [w for part in parts[name] for w in part.get_weights()]

    before = {name: weights(name) for name in parts}
    history = model.fit(nobody, y, verbose=0).history
    assert history["scan_weight"] == [0.0]
    for old, new in zip(before["scan"], weights("scan"), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(before["blood"], weights("blood"), strict=True):
        assert (old != new).any()


def test_tokens_and_functions_say_what_is_missing():
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    embedded = layers.Embedding(9, 5, mask_zero=True)(tokens)
    text = keras.Model(tokens, layers.GlobalAveragePooling1D()(embedded))
    image = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(3)]
    )

    def too_dark(x):
        return ops.max(x, axis=(1, 2, 3)) < 0.1

    model = keras_mimo.late_fusion(
        {"text": text, "image": image},
        2,
        missing={"text": 0, "image": too_dark},
    )
    x = {
        "text": np.array([[1, 2, 0, 0], [0] * 4, [3, 0, 0, 0]] * 2),
        "image": np.ones((6, 2, 2, 1), "float32"),
    }
    x["image"][2::3] = 0.05
    model.compile("sgd", CROSSENTROPY, combiner="sum")
    model.fit(x, np.array([0, 1, 0, 1, 0, 1]), verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    outputs = model.predict(x, verbose=0)
    assert not outputs["text"][1::3].any() and outputs["text"][::3].all()
    assert not outputs["image"][2::3].any() and outputs["image"][1::3].all()


def test_arrays_must_have_a_modality_of_each_sample():
    x, y = patients()
    for value in x.values():
        value[[4, 9]] = np.nan
    model = FUSIONS["sum"](missing=True)
    model.compile("sgd", CROSSENTROPY, combiner="sum")
    for call in (
        lambda: model.fit(x, y, verbose=0),
        lambda: model.evaluate(x, y, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.fit(
            {k: v[10:] for k, v in x.items()},
            y[10:],
            validation_data=(x, y),
            verbose=0,
        ),
    ):
        with pytest.raises(ValueError, match=r"modality.*\[4, 9\]"):
            call()


class Batches(keras.utils.PyDataset):
    """Batches of which some samples lack everything."""

    def __init__(self, x, y, batch_size=6):
        super().__init__()
        self.parts = [
            (
                {k: v[i : i + batch_size] for k, v in x.items()},
                y[i:][:batch_size],
            )
            for i in range(0, len(y), batch_size)
        ]

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


def test_a_sample_without_any_modality_has_no_part_in_datasets():
    x, y = patients()
    model = FUSIONS["intermediate"](missing=True)
    model.compile("sgd", CROSSENTROPY, combiner="sum")
    expected = model.evaluate(Batches(x, y, 24), verbose=0, return_dict=True)
    nothing = {k: np.concatenate([v, v[:2] * np.nan]) for k, v in x.items()}
    logs = model.evaluate(
        Batches(nothing, np.append(y, [0, 1]), 26), verbose=0, return_dict=True
    )
    assert logs == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "missing, error, message",
    [
        (0.0, TypeError, "must be a dict from"),
        ({"mri": None}, ValueError, "must name modalities"),
        ({"scan": "nan"}, TypeError, "must be numbers"),
        ({"scan": lambda x: x}, ValueError, "boolean tensor of shape"),
    ],
)
def test_bad_missing(missing, error, message):
    with pytest.raises(error, match=message):
        FUSIONS["sum"](missing=missing)


def test_integers_can_not_be_nan():
    tokens = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 3)]
    )
    tokens.add(layers.Flatten())
    with pytest.raises(ValueError, match="can't be NaN"):
        keras_mimo.late_fusion(
            {"text": tokens, **encoders()}, 2, missing={"text": None}
        )


def early_fusion():
    inputs = {
        name: keras.Input((width,), name=name)
        for name, width in (("scan", 6), ("blood", 5))
    }
    x = layers.Concatenate()(list(inputs.values()))
    x = layers.Dense(6, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["zeros", "mean", "learnt"])
def test_early_fusion_sees_what_is_absent(absent, tmp_path):
    x, y = patients()
    present = there(x)
    data = x if absent == "mean" else None
    network = early_fusion()
    model = keras_mimo.mask_modalities(
        network, absent=absent, data=data, missing=True
    )
    model.compile("adam", CROSSENTROPY, combiner="mgda")
    model.fit(x, y, batch_size=BATCH, verbose=0)
    assert all(np.isfinite(w).all() for w in model.get_weights())

    filled = {}
    for name, value in x.items():
        there_is = present[name][:, None]
        if absent == "learnt":
            layer = model.get_layer(f"{name}_absent")
            filler = layer.values.get_weights()[0]
            assert np.any(filler != 0)
        else:
            filler = np.nanmean(value, axis=0) if absent == "mean" else 0.0
        filled[name] = np.where(there_is, value, filler).astype("float32")
    outputs = model.predict(x, verbose=0)
    expected = network.predict(filled, verbose=0)
    np.testing.assert_allclose(outputs["fused"], expected, atol=1e-6)
    for name, kept in present.items():
        assert not outputs[name][~kept].any()
        assert outputs[name][kept].all()
    logs = model.evaluate(x, y, batch_size=24, verbose=0, return_dict=True)
    for name, kept in present.items():
        loss = ops.convert_to_numpy(mean_crossentropy(outputs[name], y, kept))
        np.testing.assert_allclose(logs[f"{name}_loss"], loss, rtol=1e-5)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    again = loaded.predict(x, verbose=0)
    served = keras_mimo.inference_model(model).predict(x, verbose=0)
    np.testing.assert_allclose(served, outputs["fused"], atol=1e-6)
    for name, values in outputs.items():
        np.testing.assert_allclose(again[name], values, atol=1e-6)


def test_early_fusion_without_any_or_one_lost():
    x, _ = patients()
    model = keras_mimo.mask_modalities(
        early_fusion(),
        {"scan": "scan", "blood": ("blood", slice(0, 2))},
        objectives="lost",
        missing=True,
    )
    x["blood"][:, :2][0] = np.nan
    with pytest.raises(ValueError, match="1 samples without any"):
        model.predict(x, verbose=0)
    x["scan"][0] = 1.0
    outputs = model.predict(x, verbose=0)
    assert not outputs["without_scan"][0].any()
    assert outputs["without_blood"][0].all()
