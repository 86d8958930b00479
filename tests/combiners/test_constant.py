import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.combiners import ConstantCombiner
from keras_mimo.combiners import MeanCombiner
from keras_mimo.combiners import SumCombiner
from tests.backends import gradient

NAMES = ["a", "b", "c"]
LOSSES = np.array([1.0, 2, 4], "float32")

CASES = [
    (SumCombiner(), [True, True, True], [1, 1, 1]),
    (SumCombiner(), [False, True, True], [0, 1, 1]),
    (MeanCombiner(), [True, True, True], [1 / 3, 1 / 3, 1 / 3]),
    (MeanCombiner(), [False, True, True], [0, 1 / 2, 1 / 2]),
    (MeanCombiner(), [False, False, True], [0, 0, 1]),
    (MeanCombiner(), [False, False, False], [0, 0, 0]),
    (ConstantCombiner([1, 0.5, -2]), [True, True, True], [1, 0.5, -2]),
    (ConstantCombiner((1, 0.5, -2)), [True, False, True], [1, 0, -2]),
    (ConstantCombiner({"c": 3, "a": 2}), [True, True, True], [2, 0, 3]),
]


@pytest.mark.parametrize("combiner, active, expected", CASES)
def test_weights_scalar_and_gradient(combiner, active, expected):
    # A copy, since pytest makes the cases before it resets Keras.
    combiner = type(combiner).from_config(combiner.get_config())
    combiner.build(NAMES)
    active = np.array(active)
    weights = combiner(LOSSES, active=active)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)

    def scalar(losses):
        return combiner.scalarize(losses, weights, active)

    np.testing.assert_allclose(scalar(LOSSES), expected @ LOSSES, rtol=1e-6)
    np.testing.assert_allclose(gradient(scalar, LOSSES), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "combiner",
    [
        SumCombiner(name="total"),
        MeanCombiner(),
        ConstantCombiner([1, 0.5, 2]),
        ConstantCombiner({"b": 0.5}),
    ],
)
def test_config_round_trip(combiner):
    config = keras.saving.serialize_keras_object(combiner)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(combiner)
    assert copy.get_config() == combiner.get_config()
    combiner.build(NAMES)
    copy.build(NAMES)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(copy(LOSSES)),
        ops.convert_to_numpy(combiner(LOSSES)),
    )


@pytest.mark.parametrize("weights", ["abc", 1.0, None, {1, 2}])
def test_weights_of_a_wrong_type(weights):
    with pytest.raises(TypeError, match="`weights` must be a list or a dict"):
        ConstantCombiner(weights)


@pytest.mark.parametrize(
    "weights", [[1, None], ["1", 2], [float("nan"), 1], {"a": float("inf")}]
)
def test_weights_that_are_no_numbers(weights):
    with pytest.raises(ValueError, match="must be finite numbers"):
        ConstantCombiner(weights)


def test_weights_that_do_not_fit_the_objectives():
    with pytest.raises(ValueError, match="one entry for each"):
        ConstantCombiner([1, 2]).build(NAMES)
    with pytest.raises(ValueError, match=r"does not have: \['d'\].*'a'"):
        ConstantCombiner({"a": 1, "d": 2}).build(NAMES)


def test_one_objective_is_enough():
    combiner = ConstantCombiner([0.5])
    combiner.build(["only"])
    np.testing.assert_allclose(combiner(LOSSES[:1]), [0.5])
