import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo.combiners import MIMOCombiner
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.backends import gradient

NAMES = ["x", "fused", "y", "z"]
UNIMODAL = [0, 2, 3]
ALL = np.ones(4, bool)


def built(**arguments):
    combiner = MIMOCombiner(**arguments)
    combiner.build(NAMES)
    return combiner


def with_fused(unimodal, fused):
    return np.insert(np.asarray(unimodal, "float32"), 1, fused)


def by_hand(losses, active, penalty, smoothing):
    """Value and gradient of F in float64, straight from the paper."""
    losses = losses.astype("float64")
    weights = np.where(active & (np.arange(4) == 1), 1.0, 0.0)
    value = losses[1] if active[1] else 0.0
    present = [k for k in UNIMODAL if active[k]]
    if present:
        peak = max(losses[present])
        terms = np.exp((losses[present] - peak) / smoothing)
        weights[present] = penalty * terms / sum(terms)
        value += penalty * (peak + smoothing * np.log(np.mean(terms)))
    return value, weights


def evaluate(combiner, losses, active=ALL):
    active = ops.convert_to_tensor(active)
    weights = combiner(losses, active=active)

    def scalar(losses):
        return combiner.scalarize(losses, weights, active)

    value = scalar(ops.convert_to_tensor(losses))
    return float(value), np.asarray(weights), gradient(scalar, losses)


def test_pinned_log_sum_exp():
    with double_precision():
        losses = np.array([1, 7, 2, 0.5])
        combiner = built(penalty=1.0, smoothing=0.5)
        losses = ops.convert_to_tensor(losses, dtype="float64")
        active = ops.convert_to_tensor(ALL)
        value = combiner.scalarize(losses, None, active)
        # Ours subtracts mu * log(M), which moves no gradient.
        expected = 7 + 2.084923009778143 - 0.5 * np.log(3)
        np.testing.assert_allclose(float(value), expected, rtol=1e-14)


def test_pinned_weights():
    combiner = built(penalty=2.0, smoothing=0.5)
    losses = with_fused([1, 2, 0.5], 7)
    expected = with_fused(2 * np.array([0.114195, 0.843795, 0.042010]), 1)
    np.testing.assert_allclose(combiner(losses), expected, atol=2e-6)


@pytest.mark.parametrize(
    "active",
    [
        [True, True, True, True],
        [False, True, True, True],
        [True, False, True, True],
        [False, True, False, True],
        [False, True, False, False],
        [True, False, False, False],
        [False, False, False, False],
    ],
)
@pytest.mark.parametrize("smoothing", [0.01, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("penalty", [0.0, 0.5, 2.0])
def test_gradient_equals_the_one_by_hand(penalty, smoothing, active):
    active = np.array(active)
    losses = with_fused([0.62, 0.65, 0.7], 0.3)
    expected = by_hand(losses, active, penalty, smoothing)
    combiner = built(penalty=penalty, smoothing=smoothing)
    # What is absent may be anything.
    losses = np.where(active, losses, np.float32("nan"))
    value, weights, slope = evaluate(combiner, losses, active)
    # Losses over .01 carry 70 times the rounding of the losses.
    np.testing.assert_allclose(value, expected[0], rtol=1e-6, atol=1e-6)
    atol = 1e-6 if smoothing >= 0.1 else 1e-5
    np.testing.assert_allclose(weights, expected[1], atol=atol)
    np.testing.assert_allclose(slope, expected[1], atol=atol)
    np.testing.assert_allclose(slope, weights, atol=1e-6)
    assert np.all(weights[~active] == 0)


@pytest.mark.parametrize(
    "unimodal",
    [
        [1e4, 1e-8, 1.0],
        [1e4, 1e4, 1e-8],
        [1e-8, 1e-8, 1e-8],
        [-1e4, 1e4, 0.0],
        [1e30, -1e30, 1.0],
    ],
)
def test_extreme_losses_stay_finite(unimodal):
    losses = with_fused(unimodal, 1e-8)
    value, weights, slope = evaluate(built(smoothing=1e-3), losses)
    expected = by_hand(losses, ALL, 1.0, 1e-3)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(weights, expected[1], atol=1e-6)
    np.testing.assert_allclose(slope, expected[1], atol=1e-6)


def test_smoothing_goes_from_the_maximum_to_the_mean():
    losses = with_fused([1, 3, 2], 0)
    sharp, sharp_weights, _ = evaluate(built(smoothing=1e-4), losses)
    smooth, smooth_weights, _ = evaluate(built(smoothing=1e6), losses)
    np.testing.assert_allclose(sharp, 3, rtol=1e-4)
    np.testing.assert_allclose(sharp_weights, [0, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(smooth, 2, rtol=1e-6)
    np.testing.assert_allclose(
        smooth_weights, [1 / 3, 1, 1 / 3, 1 / 3], rtol=1e-5
    )


@pytest.mark.parametrize("mode", MODES)
def test_compiled(mode):
    combiner = built()
    losses = with_fused([1.0, 1.1, 0.9], 0.5)
    _, expected = by_hand(losses, ALL, 1.0, 0.1)
    weights = compiled(combiner.__call__, mode)(losses)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_nan_shows_in_the_scalar():
    value, weights, _ = evaluate(built(), with_fused([1, float("nan"), 1], 1))
    assert np.isnan(value)
    np.testing.assert_array_equal(weights, [1, 1, 1, 1])


def test_config_round_trip():
    combiner = built(fused="fused", penalty=0.5, smoothing=0.25)
    config = keras.saving.serialize_keras_object(combiner)
    copy = keras.saving.deserialize_keras_object(config)
    assert isinstance(copy, MIMOCombiner)
    assert copy.get_config() == combiner.get_config()
    assert copy.objective_names == NAMES
    losses = with_fused([1, 2, 1.5], 1)
    np.testing.assert_array_equal(
        np.asarray(copy(losses)), np.asarray(combiner(losses))
    )


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf")])
def test_bad_penalty(penalty):
    with pytest.raises(ValueError, match=r"`penalty` must be.*Received"):
        MIMOCombiner(penalty=penalty)


@pytest.mark.parametrize("smoothing", [0, -1.0, float("nan"), float("inf")])
def test_bad_smoothing(smoothing):
    with pytest.raises(ValueError, match=r"`smoothing` must be.*Received"):
        MIMOCombiner(smoothing=smoothing)


def test_fused_must_be_a_name():
    with pytest.raises(TypeError, match="`fused` must be the name"):
        MIMOCombiner(fused=0)


def test_fused_must_be_an_objective():
    with pytest.raises(ValueError, match=r"'x', 'y'.*fused='joint'"):
        MIMOCombiner(fused="joint").build(["x", "y"])


def test_there_must_be_another_objective():
    with pytest.raises(ValueError, match="at least 2 objectives"):
        MIMOCombiner().build(["fused"])


def test_best_losses_are_what_losses_are_measured_from():
    best = {"x": 0.8, "z": 0.1}
    combiner = built(penalty=2.0, smoothing=0.5, best_losses=best)
    losses = with_fused([1.0, 0.6, 0.5], 0.9)
    excess = losses - np.array([0.8, 0, 0, 0.1])
    value, weights, slopes = evaluate(combiner, losses)
    expected, slopes_by_hand = by_hand(excess, ALL, 2.0, 0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(weights, slopes_by_hand, rtol=1e-5)
    np.testing.assert_allclose(slopes, slopes_by_hand, rtol=1e-5)
    # y is the worst of what is left, where x would be.
    assert weights[UNIMODAL].argmax() == 1
    copy = MIMOCombiner.from_config(combiner.get_config())
    assert copy.best_losses == best


def test_best_losses_come_from_runs():
    combiner = MIMOCombiner()
    run = keras.callbacks.History()
    run.history = {"loss": [1.0, 0.4, 0.5]}
    combiner.adapt({"y": run})
    combiner.build(NAMES)
    assert combiner.best_losses == {"y": 0.4}
    with pytest.raises(TypeError, match="`runs` must be a dict"):
        combiner.adapt({"y": 0.4})


@pytest.mark.parametrize(
    "best, error", [([0.1], TypeError), ({"y": float("nan")}, ValueError)]
)
def test_bad_best_losses(best, error):
    with pytest.raises(error, match="`best_losses` must be"):
        MIMOCombiner(best_losses=best)


def test_best_losses_are_of_unimodal_objectives():
    with pytest.raises(ValueError, match=r"uni-modal objectives.*'fused'"):
        built(best_losses={"fused": 0.1})
