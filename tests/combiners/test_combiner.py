"""What the base class promises for every combiner."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.combiners import BalancedGradientCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import SumCombiner
from tests.backends import compiled
from tests.backends import double_precision
from tests.backends import gradient

LOSSES = np.array([1.0, 2, 4], "float32")
GRAMIAN = np.array([[4.0, 1, -1], [1, 9, 2], [-1, 2, 16]], "float32")
NAN = float("nan")
INF = float("inf")


class RowSums(BalancedGradientCombiner):
    needs = "gramian"

    def call(self, losses, gramian=None, active=None, training=True):
        return losses + ops.sum(gramian, axis=1)


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Remembering(RowSums):
    """Keeps the last weights."""

    def build(self, objective_names):
        super().build(objective_names)
        self.last = self.add_weight(
            name="last",
            shape=(len(objective_names),),
            initializer="zeros",
            trainable=False,
        )

    def call(self, losses, gramian=None, active=None, training=True):
        weights = super().call(losses, gramian, active, training)
        self.last.assign(weights)
        return weights


class Inverse(BalancedGradientCombiner):
    def call(self, losses, gramian=None, active=None, training=True):
        return 1.0 / (losses + 1.0)


def numpy(x):
    return ops.convert_to_numpy(x)


def edited(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def built():
    combiner = Remembering()
    combiner.build(["a", "b", "c"])
    return combiner


def test_weights_and_state():
    combiner = built()
    weights = combiner(LOSSES, GRAMIAN)
    np.testing.assert_allclose(numpy(weights), [5, 14, 21])
    np.testing.assert_allclose(numpy(combiner.last), [5, 14, 21])


def test_state_is_left_alone_outside_of_training():
    combiner = built()
    combiner(LOSSES, GRAMIAN)
    weights = combiner(2 * LOSSES, GRAMIAN, training=False)
    np.testing.assert_allclose(numpy(weights), [6, 16, 25])
    np.testing.assert_allclose(numpy(combiner.last), [5, 14, 21])


def test_inactive_objectives_are_hidden_and_get_no_weight():
    combiner = built()
    active = np.array([True, False, True])
    losses = edited(LOSSES, 1, NAN)
    gramian = edited(edited(GRAMIAN, 1, NAN), (slice(None), 1), INF)
    weights = combiner(losses, gramian, active)
    np.testing.assert_allclose(numpy(weights), [4, 0, 19])
    # What is absent does not count as a bad step either.
    np.testing.assert_allclose(numpy(combiner.last), [4, 0, 19])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["losses", "gramian"])
def test_bad_steps_are_plain_and_leave_no_trace(where, value):
    combiner = built()
    combiner(LOSSES, GRAMIAN)
    losses, gramian = LOSSES, GRAMIAN
    if where == "losses":
        losses = edited(losses, 2, value)
    else:
        gramian = edited(gramian, (0, 2), value)
    weights = combiner(losses, gramian)
    np.testing.assert_array_equal(numpy(weights), [1, 1, 1])
    np.testing.assert_allclose(numpy(combiner.last), [5, 14, 21])
    weights = combiner(losses, gramian, [True, True, True])
    np.testing.assert_array_equal(numpy(weights), [1, 1, 1])
    # The next good step is as if nothing had happened.
    weights = combiner(2 * LOSSES, GRAMIAN)
    np.testing.assert_allclose(numpy(combiner.last), [6, 16, 25])


def test_bad_step_with_an_inactive_objective():
    combiner = built()
    losses = edited(LOSSES, 0, NAN)
    weights = combiner(losses, GRAMIAN, [True, False, True])
    np.testing.assert_array_equal(numpy(weights), [1, 0, 1])


@pytest.mark.parametrize("present", [0, 1, 2])
def test_one_active_objective_gets_its_gradient(present):
    active = np.arange(3) == present
    weights = built()(LOSSES, GRAMIAN, active)
    np.testing.assert_array_equal(numpy(weights), active)


def test_no_active_objective_gives_no_update():
    weights = built()(LOSSES, GRAMIAN, np.zeros(3, bool))
    np.testing.assert_array_equal(numpy(weights), [0, 0, 0])


def test_one_active_objective_of_a_combiner_of_losses_keeps_its_weight():
    weights = Inverse()(LOSSES, active=[False, True, False])
    np.testing.assert_allclose(numpy(weights), [0, 1 / 3, 0])


@pytest.mark.parametrize("dtype", ["float16", "int32", "float32"])
def test_weights_are_float32_whatever_comes_in(dtype):
    weights = built()(LOSSES.astype(dtype), GRAMIAN.astype(dtype))
    assert keras.backend.standardize_dtype(weights.dtype) == "float32"
    np.testing.assert_allclose(numpy(weights), [5, 14, 21])


def test_lists_are_fine():
    weights = built()(LOSSES.tolist(), GRAMIAN.tolist(), [True, True, False])
    np.testing.assert_allclose(numpy(weights), [6, 12, 0])


def test_float32_under_a_half_precision_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        combiner = built()
    finally:
        keras.config.set_dtype_policy(before)
    # 3001 is no float16.
    weights = combiner(np.array([3001.0, 1, 1], "float32"), 0 * GRAMIAN)
    assert numpy(weights)[0] == 3001
    assert numpy(combiner.last)[0] == 3001


@pytest.mark.parametrize("wide", ["losses", "gramian", "both"])
def test_float64_is_kept(wide):
    with double_precision():
        losses = LOSSES.astype("float32" if wide == "gramian" else "float64")
        gramian = GRAMIAN.astype("float32" if wide == "losses" else "float64")
        weights = MGDACombiner("loss")(losses[:2], gramian[:2, :2])
        assert keras.backend.standardize_dtype(weights.dtype) == "float64"


@pytest.mark.parametrize(
    "losses, gramian, active, message",
    [
        (np.ones(2), GRAMIAN, None, "`losses` must have shape"),
        (np.ones((3, 1)), GRAMIAN, None, "`losses` must have shape"),
        (np.ones(()), GRAMIAN, None, "`losses` must have shape"),
        (LOSSES, GRAMIAN[:2], None, "`gramian` must have shape"),
        (LOSSES, GRAMIAN[0], None, "`gramian` must have shape"),
        (LOSSES, GRAMIAN, [True], "`active` must have shape"),
        (LOSSES, None, None, "needs the argument `gramian`"),
    ],
)
@pytest.mark.parametrize("is_built", [True, False])
def test_shapes_are_checked(losses, gramian, active, message, is_built):
    combiner = built() if is_built else Remembering()
    if not is_built and losses.shape == (2,):
        message = "`gramian` must have shape"
    with pytest.raises(ValueError, match=message):
        combiner(losses, gramian, active)


def test_unbuilt_combiner_names_the_objectives_itself():
    combiner = Remembering()
    combiner(LOSSES, GRAMIAN)
    names = ["objective_0", "objective_1", "objective_2"]
    assert combiner.objective_names == names
    assert combiner.built
    np.testing.assert_allclose(numpy(combiner.last), [5, 14, 21])


def test_names_are_checked():
    with pytest.raises(ValueError, match=r"distinct names.*'a', 'a'"):
        Inverse().build(["a", "a"])
    with pytest.raises(ValueError, match="at least 2 objectives"):
        Inverse().build(["a"])
    SumCombiner().build(["a"])


def test_call_is_required():
    with pytest.raises(NotImplementedError, match="`call"):
        BalancedGradientCombiner()(LOSSES)


def test_scalar_of_a_combiner_of_losses_has_the_weights_as_gradient():
    combiner = Inverse()
    combiner.build(["a", "b", "c"])
    active = np.array([True, False, True])
    losses = edited(LOSSES, 1, NAN)

    def scalar(losses):
        weights = combiner(losses, active=active)
        return combiner.scalarize(losses, weights, active)

    np.testing.assert_allclose(scalar(losses), 1 / 2 + 4 / 5, rtol=1e-6)
    np.testing.assert_allclose(
        gradient(scalar, losses), [1 / 2, 0, 1 / 5], rtol=1e-6
    )


def test_scalar_of_a_combiner_of_gradients_is_the_sum():
    active = np.array([True, False, True])
    losses = edited(LOSSES, 1, NAN)
    value = built().scalarize(losses, np.array([7.0, 0, 7]), active)
    np.testing.assert_allclose(numpy(value), 5)


def test_registered_subclass_round_trip():
    config = keras.saving.serialize_keras_object(built())
    copy = keras.saving.deserialize_keras_object(config)
    assert isinstance(copy, Remembering)
    assert copy.objective_names == ["a", "b", "c"]
    np.testing.assert_array_equal(numpy(copy.last), [0, 0, 0])


@pytest.mark.parametrize(
    "losses, active, expected",
    [
        ([1, 2, 4], [True, True, True], [5, 14, 21]),
        ([1, NAN, 4], [True, False, True], [4, 0, 19]),
        ([NAN, 2, 4], [True, False, True], [1, 0, 1]),
        ([1, 2, 4], [False, True, False], [0, 1, 0]),
    ],
)
def test_compiled(losses, active, expected):
    losses = np.array(losses, "float32")
    weights = compiled(stateless_weights)(losses, GRAMIAN, np.array(active))
    np.testing.assert_allclose(weights, expected)


def stateless_weights(losses, gramian, active):
    return RowSums()(losses, gramian, active)
