"""Half precision trains as well as float32, and scales are no matter."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from sklearn.datasets import load_digits

import keras_mimo
from keras_mimo import combiners
from tests.quick import quick

COMBINERS = {
    "mimo": keras_mimo.MIMOCombiner,
    "mgda": keras_mimo.MGDACombiner,
}
HALF = ["mixed_float16", "mixed_bfloat16"]


def digits():
    """Handwritten digits, of which one sensor sees the upper half."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (images[order] / 16).astype("float32")
    x = {"upper": images[:, :32], "lower": images[:, 32:]}
    return x, labels[order]


def trained(policy, combiner):
    x, y = digits()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        encoders = {
            name: keras.Sequential(
                [keras.Input((32,)), layers.Dense(64, activation="relu")]
            )
            for name in x
        }
        model = keras_mimo.late_fusion(encoders, num_classes=10)
        model.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            combiner=combiner,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    train = {name: value[:1300] for name, value in x.items()}
    model.fit(train, y[:1300], batch_size=100, epochs=8, verbose=0)
    test = {name: value[1300:] for name, value in x.items()}
    logits = model.predict(test, verbose=0)
    accuracy = {k: np.mean(v.argmax(-1) == y[1300:]) for k, v in logits.items()}
    return model, accuracy


@pytest.mark.slow
@pytest.mark.parametrize("combiner", COMBINERS)
def test_as_accurate_as_float32(combiner):
    _, exact = trained("float32", COMBINERS[combiner]())
    assert exact["fused"] > 0.93
    for policy in HALF:
        model, accuracy = trained(policy, COMBINERS[combiner]())
        scaled = isinstance(
            model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        assert scaled == (policy == "mixed_float16")
        assert all(v.dtype == "float32" for v in model.combiner.variables)
        # 497 digits are left to test with.
        for output in exact:
            assert accuracy[output] > exact[output] - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("policy", ["float32", *HALF])
def test_weights_do_not_depend_on_the_scale_of_the_losses(policy, scale):
    """MGDA's weights depend on the ratios of gradients alone."""
    weights = [weights_at(policy, factor) for factor in (1.0, scale)]
    assert np.ptp(weights[0]) > 0.05
    # Gradients are rounded to 11 bits in float16, and to 8 in bfloat16.
    tolerance = {"float32": 1e-4, "mixed_float16": 5e-3}.get(policy, 2e-2)
    np.testing.assert_allclose(*weights, atol=tolerance)


@pytest.mark.parametrize("scale", quick([1e18], [1e-16, 1e18]))
def test_squares_of_gradients_fit_float32(scale):
    weights = [weights_at("float32", factor) for factor in (1.0, scale)]
    np.testing.assert_allclose(*weights, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-28, 1e28])
def test_without_a_gramian_objectives_are_summed_or_averaged(scale):
    """Squares that are no numbers, or 0, balance nothing."""
    weights = weights_at("float32", scale)
    np.testing.assert_allclose(weights, 1.0 if scale > 1 else 1 / 3, rtol=1e-6)


def weights_at(policy, factor):
    """The weights of the first step that is not skipped."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((4,))
        x = layers.Dense(8, activation="tanh")(inputs)
        outputs = {
            name: layers.Dense(1, dtype="float32", name=name)(x)
            for name in ("a", "b", "c")
        }
        model = keras_mimo.BalancedModel(inputs, outputs)
        model.compile(
            keras.optimizers.SGD(1e-6),
            "mse",
            loss_weights=dict.fromkeys(outputs, factor),
            combiner=keras_mimo.MGDACombiner(),
        )
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    y = {
        name: (k + 1) * x @ rng.normal(size=(4, 1)).astype("float32")
        for k, name in enumerate(outputs)
    }
    for _ in range(30):
        model.reset_metrics()
        logs = model.train_on_batch(x, y, return_dict=True)
        if int(ops.convert_to_numpy(model.optimizer.iterations)) == 1:
            break
    return np.array([float(logs[f"{name}_weight"]) for name in outputs])


def every_second():
    gramian = combiners.Smoothed(combiners.MGDACombiner(), of="gramian")
    return combiners.EveryN(gramian, 2)


STATEFUL = [
    combiners.DWACombiner,
    combiners.FAMOCombiner,
    lambda: combiners.RLWCombiner(seed=0),
    lambda: combiners.GradVacCombiner(seed=0),
    every_second,
]


@pytest.mark.parametrize(
    "make",
    quick([combiners.FAMOCombiner, every_second], STATEFUL),
)
def test_a_step_that_overflows_leaves_no_trace_in_the_combiner(make):
    """Of finite losses, whose gradients are not when they are scaled."""
    made, skipped = (states(make(), scale) for scale in (1.0, 1e30))
    for before, after in zip(*skipped, strict=True):
        np.testing.assert_array_equal(before, after)
    changes = [np.any(a != b) for a, b in zip(*made, strict=True)]
    assert any(changes)


def states(combiner, scale):
    """The combiner's variables before and after two steps."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((4,))
        x = layers.Dense(8, activation="tanh")(inputs)
        outputs = {
            name: layers.Dense(1, dtype="float32", name=name)(x)
            for name in ("a", "b")
        }
        model = keras_mimo.BalancedModel(inputs, outputs)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=scale
    )
    model.compile(optimizer, "mse", combiner=combiner)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4)).astype("float32")
    y = {name: rng.normal(size=(8, 1)).astype("float32") for name in outputs}
    model.evaluate(x, y, verbose=0)
    before = values(combiner)
    for _ in range(2):
        loss = model.train_on_batch(x, y, return_dict=True)["loss"]
        assert np.isfinite(loss)
    steps = int(ops.convert_to_numpy(optimizer.inner_optimizer.iterations))
    assert steps == (2 if scale == 1.0 else 0)
    return before, values(combiner)


def values(combiner):
    return [
        np.array(ops.convert_to_numpy(v))
        for v in combiner.non_trainable_variables
    ]
