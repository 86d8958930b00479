"""Layers whose variables are overwritten with what comes as their gradient."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import combiners

# Keras says that it quantizes no `InputLayer`.
pytestmark = pytest.mark.filterwarnings("ignore:Layer InputLayer")


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class SumOfGradients(keras_mimo.SumCombiner):
    """`SumCombiner`, forced through the Gramian path."""

    needs = "gramian"


def build(base):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    shared = layers.Dense(
        16,
        activation="relu",
        # Also what is no objective has a part in the gradient of outputs.
        activity_regularizer=keras.regularizers.L2(0.1),
        name="shared",
    )(inputs)
    heads = {name: layers.Dense(1, name=name)(shared) for name in ("a", "b")}
    model = base(inputs, heads)
    model.quantize("float8")
    return model


def train(model, rate, epochs, **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype("float32")
    y = {"a": x[:, :1], "b": x[:, 1:2] ** 2}
    model.compile(keras.optimizers.SGD(rate), "mse", **options)
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"]


def overwritten(model):
    found = {
        variable.path: ops.convert_to_numpy(variable).copy()
        for variable in model.trainable_variables
        if variable.overwrite_with_gradient
    }
    assert len(found) == 3 * 6
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"combiner": keras_mimo.MGDACombiner},
        pytest.param(
            {"combiner": combiners.GradDropCombiner}, marks=pytest.mark.slow
        ),
        pytest.param(
            {
                "combiner": lambda: combiners.EveryN(
                    keras_mimo.MGDACombiner(), 2
                ),
                "blocks": "variable",
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["gramian", "coordinates", "periodic"],
)
def test_scales_are_those_of_the_summed_loss(options):
    options = {**options, "combiner": options["combiner"]()}
    plain, model = build(keras.Model), build(keras_mimo.BalancedModel)
    # Nothing else is trained, so that the next step is of the same model.
    train(plain, 0.0, 1)
    train(model, 0.0, 1, **options)
    expected = overwritten(plain)
    assert expected["shared/kernel_scale"] < 0.01
    for path, value in overwritten(model).items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-5)


@pytest.mark.slow
def test_training_does_not_diverge():
    plain, model = build(keras.Model), build(keras_mimo.BalancedModel)
    expected = train(plain, 0.02, 12)
    losses = train(model, 0.02, 12, combiner=SumOfGradients())
    assert np.isfinite(losses).all()
    # The gradient of each objective is rounded to eight bits on its own.
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    scales = overwritten(model)
    for path, value in overwritten(plain).items():
        if path.endswith("scale"):
            # Of the largest value so far: of one batch they differ by more.
            np.testing.assert_allclose(scales[path], value, rtol=0.1)
