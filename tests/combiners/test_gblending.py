"""Weights of Gradient-Blending: by hand, and what sets and keeps them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo import combiners
from keras_mimo.combiners import GBlendingCombiner
from keras_mimo.combiners.gblending import blending_weights

# Losses of three modalities and the fused output, by hand:
#   G = 1, .5, -.5, .4;  O = .5, -.25, 1, .2;  G / O^2 = 4, 8, -, 10.
TRAIN_BEFORE = [2.0, 2.0, 2.0, 1.5]
VAL_BEFORE = [2.5, 2.25, 2.0, 1.5]
TRAIN_AFTER = [0.5, 1.75, 1.5, 0.9]
VAL_AFTER = [1.5, 1.75, 2.5, 1.1]
LOSSES = (TRAIN_BEFORE, VAL_BEFORE, TRAIN_AFTER, VAL_AFTER)
WEIGHTS = np.array([4.0, 8.0, 0.0, 10.0]) / 22


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def built(names=("fused", "a", "b", "c")):
    combiner = GBlendingCombiner()
    combiner.build(list(names))
    return combiner


def test_by_hand():
    np.testing.assert_allclose(blending_weights(*LOSSES), WEIGHTS, rtol=1e-12)


def test_two_modalities_by_hand():
    # The fused output overfits twice as much as one that gains as much, and
    # the third gains a quarter of that at half the overfitting.
    found = blending_weights([3, 3, 3], [3, 3, 3], [1, 1.5, 2.5], [2, 2, 2.75])
    np.testing.assert_allclose(found, np.array([1, 4, 4]) / 9, rtol=1e-12)


def test_more_overfitting_is_less_weight_and_more_gain_is_more():
    same = np.full(2, 2.0)
    more_gap = blending_weights(same, same, [1.0, 0.8], [1.5, 1.5])
    assert more_gap[0] > 0.6
    more_gain = blending_weights(same, same, [1.0, 0.6], [1.5, 1.1])
    assert more_gain[0] < 0.4


def test_the_unit_of_all_losses_does_not_matter():
    for unit in (1e-200, 1e-3, 1e200):
        losses = [unit * np.array(values) for values in LOSSES]
        found = blending_weights(*losses)
        np.testing.assert_allclose(found, WEIGHTS, rtol=1e-9)


def test_no_overfitting_counts_as_one_percent_of_the_largest_loss():
    # The first has none: 0.5 / (.01 * 2)^2 = 1250 to .5 / .5^2 = 2.
    found = blending_weights([2, 2], [2, 2], [1.5, 1.0], [1.5, 1.5])
    np.testing.assert_allclose(found, np.array([1250, 2]) / 1252, rtol=1e-12)
    # Nor has the second: by the unit of its own losses, as in the paper.
    found = blending_weights([2, 20], [2, 20], [1.5, 15], [1.5, 15])
    np.testing.assert_allclose(found, np.array([10, 1]) / 11, rtol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_no_gain(bad):
    after = [*VAL_AFTER[:3], bad]
    found = blending_weights(TRAIN_BEFORE, VAL_BEFORE, TRAIN_AFTER, after)
    np.testing.assert_allclose(found, np.array([1, 2, 0, 0]) / 3, rtol=1e-12)


def test_all_alike_where_nothing_gained():
    for after in ([2, 2, 2], [3, 2, 2.5], [float("nan")] * 3):
        found = blending_weights([2] * 3, [2] * 3, [1] * 3, after)
        np.testing.assert_allclose(found, [1 / 3] * 3, rtol=1e-12)
    zeros = np.zeros(2)
    np.testing.assert_array_equal(blending_weights(*[zeros] * 4), [0.5, 0.5])


@pytest.mark.parametrize(
    "losses",
    [([1, 2], [1, 2], [1, 2], [1]), (1, 1, 1, 1), ([], [], [], [])],
)
def test_bad_losses(losses):
    with pytest.raises(ValueError, match="one loss for each objective"):
        blending_weights(*losses)


def test_weights_are_those_that_were_set():
    combiner = built()
    losses = np.ones(4, "float32")
    np.testing.assert_allclose(numpy(combiner(losses)), [0.25] * 4)
    combiner.set_blend_by_losses(*LOSSES)
    np.testing.assert_allclose(numpy(combiner(losses)), WEIGHTS, rtol=1e-6)
    combiner.set_blend([1, 1, 0, 2])
    np.testing.assert_allclose(numpy(combiner(losses)), [0.25, 0.25, 0, 0.5])
    # Of those in the batch, unless they have none.
    active = np.array([True, False, True, True])
    found = numpy(combiner(losses, active=active))
    np.testing.assert_allclose(found, [1 / 3, 0, 0, 2 / 3], rtol=1e-6)
    active = np.array([False, False, True, False])
    np.testing.assert_array_equal(numpy(combiner(losses, active=active)), 0)


@pytest.mark.parametrize(
    "weights", [[1, 2], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, np.nan], 1]
)
def test_bad_weights(weights):
    with pytest.raises(ValueError, match=r"objectives \['fused', 'a', 'b'"):
        built().set_blend(weights)


def test_weights_of_nothing():
    with pytest.raises(ValueError, match="no objectives yet"):
        GBlendingCombiner().set_blend([1, 1])


@pytest.mark.parametrize("name", ["gblending", "g_blending", "GBlending"])
def test_by_name(name):
    assert type(combiners.get(name)) is GBlendingCombiner


def test_config():
    config = keras.saving.serialize_keras_object(built())
    loaded = keras.saving.deserialize_keras_object(config)
    assert loaded.objective_names == ["fused", "a", "b", "c"]
    np.testing.assert_allclose(numpy(loaded.blend), [0.25] * 4)
