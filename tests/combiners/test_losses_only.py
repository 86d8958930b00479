"""Combiners of losses against their formulas, before they have learnt."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.combiners import DWACombiner
from keras_mimo.combiners import FAMOCombiner
from keras_mimo.combiners import GLSCombiner
from keras_mimo.combiners import IMTLLCombiner
from keras_mimo.combiners import RLWCombiner
from keras_mimo.combiners import STCHCombiner
from keras_mimo.combiners import UncertaintyCombiner
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.backends import gradient

NAMES = ["a", "b", "c", "d"]
LOSSES = np.array([0.62, 1.65, 0.7, 0.3])
MASKS = [
    [True, True, True, True],
    [False, True, True, True],
    [True, False, True, False],
    [False, False, False, True],
    [False, False, False, False],
]
NAN = float("nan")


def stch(losses, smoothing, preference=1.0, reference=0.0):
    """Of the active objectives, as all functions here: value and weights."""
    preference = np.broadcast_to(preference, losses.shape)
    if not np.any(preference):
        return 0.0, 0 * losses
    preference = preference / np.sum(preference) * len(losses)
    scores = preference * (losses - reference) / smoothing
    terms = np.where(preference > 0, np.exp(scores - max(scores)), 0)
    value = smoothing * (max(scores) + np.log(np.sum(terms)))
    return value, preference * terms / np.sum(terms)


def gls(losses):
    value = np.prod(losses) ** (1 / len(losses))
    return value, value / losses / len(losses)


def uncertainty(losses):
    return np.sum(losses) / 2, np.full(len(losses), 0.5)


def weighted(losses, weights):
    return np.sum(weights * losses), weights


def imtll(losses):
    return weighted(losses, np.ones(len(losses)))


def rlw(losses):
    return weighted(losses, np.full(len(losses), 1 / len(losses)))


def famo(losses, lowest):
    shares = 1 / (np.maximum(losses - lowest, 0) + 1e-8)
    return weighted(losses, shares / np.sum(shares))


P = np.array([1, 3, 0, 2.0])
LOW = np.array([0.1, 0, -1, 0.2])


def by_name(values):
    # What is left out is 0.
    return {n: v for n, v in zip(NAMES, values, strict=True) if v}


# Combiners, and value and weights for the losses where a mask is true.
CASES = {
    "stch": (STCHCombiner, lambda x, m: stch(x, 0.1)),
    "stch_smooth": (lambda: STCHCombiner(100.0), lambda x, m: stch(x, 100)),
    "stch_all": (
        lambda: STCHCombiner(0.4, by_name(LOW), list(P)),
        lambda x, m: stch(x, 0.4, P[m], LOW[m]),
    ),
    "gls": (GLSCombiner, lambda x, m: gls(x)),
    "uncertainty": (UncertaintyCombiner, lambda x, m: uncertainty(x)),
    "imtll": (IMTLLCombiner, lambda x, m: imtll(x)),
    "dwa": (DWACombiner, lambda x, m: imtll(x)),
    "rlw": (RLWCombiner, lambda x, m: rlw(x)),
    "famo": (FAMOCombiner, lambda x, m: famo(x, 0)),
    "famo_low": (
        lambda: FAMOCombiner(min_losses=list(LOW)),
        lambda x, m: famo(x, LOW[m]),
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def built(make):
    combiner = make()
    combiner.build(NAMES)
    return combiner


def by_hand(case, mask, losses=LOSSES):
    value, weights = 0.0, np.zeros(4)
    if any(mask):
        value, weights[mask] = CASES[case][1](losses[mask], mask)
    return value, weights


def weigh(combiner, losses, active=None, training=False):
    weights = combiner(losses, active=active, training=training)
    return ops.convert_to_numpy(weights)


def scalar_of(combiner, active):
    active = ops.convert_to_tensor(np.array(active))

    def scalar(losses):
        fixed = ops.stop_gradient(losses)
        weights = combiner(fixed, active=active, training=False)
        return combiner.scalarize(losses, weights, active)

    return scalar


def value_of(combiner, losses, active=MASKS[0]):
    losses = ops.convert_to_tensor(losses, dtype=losses.dtype)
    return ops.convert_to_numpy(scalar_of(combiner, active)(losses))


@every_case
@pytest.mark.parametrize("mask", MASKS)
def test_formula(case, mask):
    mask = np.array(mask)
    value, weights = by_hand(case, mask)
    combiner = built(CASES[case][0])
    # What is absent may be anything.
    losses = np.where(mask, LOSSES, NAN)
    with double_precision():
        found = weigh(combiner, losses, mask)
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, weights, rtol=1e-12)
        found = value_of(combiner, losses, mask)
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, value, rtol=1e-12)
    losses = losses.astype("float32")
    found = weigh(combiner, losses, mask)
    assert found.dtype == "float32"
    # A score of 16 carries 16 times the rounding of a loss.
    np.testing.assert_allclose(found, weights, rtol=1e-5)
    slope = gradient(scalar_of(combiner, mask), losses)
    np.testing.assert_allclose(slope, found, rtol=1e-5, atol=1e-9)


@every_case
@pytest.mark.parametrize("mode", MODES)
def test_compiled(case, mode):
    combiner = built(CASES[case][0])
    mask = np.array([True, True, False, True])
    weights = compiled(stateless(combiner, False), mode)(LOSSES32, mask)
    np.testing.assert_allclose(weights, by_hand(case, mask)[1], rtol=1e-5)
    weights = compiled(stateless(combiner, True), mode)(LOSSES32, mask)
    if case == "rlw":
        np.testing.assert_allclose(np.sum(weights), 1, rtol=1e-6)
    else:
        np.testing.assert_allclose(weights, by_hand(case, mask)[1], rtol=1e-5)


LOSSES32 = LOSSES.astype("float32")


def stateless(combiner, training):
    def weights(losses, active):
        with keras.StatelessScope():
            return combiner(losses, active=active, training=training)

    return weights


@every_case
@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_what_is_not_finite_shows_in_the_scalar(case, bad):
    combiner = built(CASES[case][0])
    losses = np.where(np.arange(4) == 1, bad, LOSSES).astype("float32")
    before = [ops.convert_to_numpy(v).copy() for v in combiner.weights]
    weights = weigh(combiner, losses, training=True)
    np.testing.assert_array_equal(weights, np.ones(4))
    assert not np.isfinite(value_of(combiner, losses))
    for old, v in zip(before, combiner.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(v), old)


@every_case
@pytest.mark.parametrize("size", [1e-6, 1e8, 1e30])
def test_extreme_losses_stay_finite(case, size):
    losses = size * LOSSES
    value, weights = by_hand(case, np.ones(4, bool), losses)
    combiner = built(CASES[case][0])
    losses = losses.astype("float32")
    slope = gradient(scalar_of(combiner, MASKS[0]), losses)
    tolerance = dict(rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(weigh(combiner, losses), weights, **tolerance)
    np.testing.assert_allclose(slope, weights, **tolerance)
    np.testing.assert_allclose(value_of(combiner, losses), value, rtol=1e-5)


def test_stch_is_the_maximum_in_the_limit():
    found = weigh(built(lambda: STCHCombiner(1e-4)), LOSSES32)
    np.testing.assert_allclose(found, [0, 1, 0, 0], atol=1e-6)
    preferring = built(lambda: STCHCombiner(1e-4, 0.2, [5, 1, 1, 1]))
    np.testing.assert_allclose(weigh(preferring, LOSSES32), [2.5, 0, 0, 0])
    np.testing.assert_allclose(
        value_of(preferring, LOSSES32), 2.5 * (0.62 - 0.2), rtol=1e-5
    )


def test_stch_and_the_scalar_of_the_paper():
    """There preferences have sum 1: smoothing and loss are those over K."""
    shares = np.array([0.1, 0.4, 0.2, 0.3])
    expected = np.log(np.sum(np.exp(shares * LOSSES / 0.05))) * 0.05
    combiner = built(lambda: STCHCombiner(4 * 0.05, preference=list(shares)))
    with double_precision():
        found = value_of(combiner, LOSSES)
    np.testing.assert_allclose(found, 4 * expected, rtol=1e-12)


def test_stch_leaves_out_what_is_not_preferred():
    combiner = built(lambda: STCHCombiner(preference=[1, 1, 0, 0]))
    without = STCHCombiner()
    without.build(NAMES[:2])
    # In the paper's sum a preference of 0 would leave exp(0).
    with double_precision():
        np.testing.assert_allclose(
            weigh(combiner, LOSSES)[:2] / 2, weigh(without, 2 * LOSSES[:2])
        )
    absent = [False, False, True, True]
    np.testing.assert_array_equal(weigh(combiner, LOSSES32, absent), 0)
    assert value_of(combiner, LOSSES32, absent) == 0


@pytest.mark.parametrize("small", [0.0, 1e-9, -3.0])
def test_gls_at_losses_that_are_not_positive(small):
    """They count as 1e-8, and no step changes that."""
    combiner = built(GLSCombiner)
    losses = np.array([small, 2, 1, 1], "float32")
    value, weights = gls(np.array([1e-8, 2, 1, 1]))
    weights[0] = 0
    np.testing.assert_allclose(weigh(combiner, losses), weights, rtol=1e-5)
    np.testing.assert_allclose(value_of(combiner, losses), value, rtol=1e-5)
    slope = gradient(scalar_of(combiner, MASKS[0]), losses)
    np.testing.assert_allclose(slope, weights, rtol=1e-5)


def test_gls_does_not_mind_the_scale_of_a_loss():
    combiner = built(GLSCombiner)
    scale = np.array([1, 1e3, 1e-3, 5])
    with double_precision():
        plain = weigh(combiner, LOSSES)
        scaled = weigh(combiner, LOSSES * scale) * scale
    np.testing.assert_allclose(scaled / np.sum(scaled), plain / np.sum(plain))


def test_rlw_draws_from_the_softmax_of_normal_numbers():
    combiner = built(lambda: RLWCombiner(seed=1))
    active = np.array([True, True, False, True])
    draws = np.array(
        [weigh(combiner, LOSSES32, active, training=True) for _ in range(500)]
    )
    assert np.all(draws[:, 2] == 0)
    draws = draws[:, active]
    np.testing.assert_allclose(np.sum(draws, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.mean(draws, axis=0), 1 / 3, atol=0.04)
    # The normal numbers themselves, less their mean.
    scores = np.log(draws) - np.mean(np.log(draws), axis=1, keepdims=True)
    np.testing.assert_allclose(np.cov(scores.T), np.eye(3) - 1 / 3, atol=0.12)
    steps = np.corrcoef(scores[:-1, 0], scores[1:, 0])[0, 1]
    assert abs(steps) < 0.15
