"""Factors by hand, from the formulas of the papers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo import modulations

SIGMA = np.array([0.6, 0.3, 0.3], "float32")


def factors(modulation, scores, losses=None):
    return ops.convert_to_numpy(modulation(scores, losses))


@pytest.mark.parametrize(
    ("modulation", "scores", "expected"),
    [
        # rho = (2, .5): 1 - tanh(1.6).
        (modulations.OGM(alpha=0.8), SIGMA[:2], [0.0783314, 1.0]),
        # rho = (2, .75, .75): 1 - .8 tanh(1).
        (modulations.OGM(alpha=0.8), SIGMA, [0.3907247, 1.0, 1.0]),
        # r = (.5, 2): 1 + tanh(-.25), 1 + 9 tanh(.5).
        (modulations.MLB(0.5, 10.0), SIGMA[:2], [0.7550813, 5.1590544]),
        # r = (.5, 1.5, 1.5): 1 + tanh(-.25), 1 + 9 tanh(.25).
        (modulations.MLB(0.5, 10.0), SIGMA, [0.7550813, 3.2042680, 3.2042680]),
    ],
)
def test_by_scores(modulation, scores, expected):
    np.testing.assert_allclose(factors(modulation, scores), expected, rtol=2e-6)


def test_agm_compares_with_the_past():
    agm = modulations.AGM(alpha=1.5)
    scores = [0.5, 0.5]
    # There is no past: tau = r.
    np.testing.assert_allclose(factors(agm, scores, [1.0, 2.0]), [1.0, 1.0])
    # r = exp(+-1.5), and, of the means (.75, 2), tau = exp(+-1.25).
    expected = np.exp(
        1.5
        * np.array([np.exp(1.25) - np.exp(1.5), np.exp(-1.25) - np.exp(-1.5)])
    )
    actual = factors(agm, scores, [0.5, 2.0])
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert actual[0] < 1 < actual[1]


def test_agm_of_three_modalities():
    agm = modulations.AGM(alpha=2.0)
    first, second = np.array([1.0, 2.0, 3.0]), np.array([0.4, 2.0, 3.0])
    factors(agm, [0.5] * 3, first)

    def ahead(c):
        return np.exp(1.5 * (c.mean() - c))

    change = ahead((first + second) / 2) - ahead(second)
    np.testing.assert_allclose(
        factors(agm, [0.5] * 3, second), np.exp(2.0 * change), rtol=1e-5
    )


def test_agm_is_capped():
    agm = modulations.AGM(alpha=1.0, cap=0.1)
    factors(agm, [0.5, 0.5], [0.1, 2.0])
    after = factors(agm, [0.5, 0.5], [2.0, 2.0])
    np.testing.assert_allclose(after[0], np.exp(0.1), rtol=1e-6)


def epoch_end(modulation, epoch, values, metric):
    logs = {f"val_{m}_{metric}": v for m, v in zip("ab", values, strict=True)}
    modulation.on_epoch_end(epoch, logs, {"a": [], "b": []})
    return ops.convert_to_numpy(modulation.factors)


def test_mslr_follows_the_mean_of_the_last_epochs():
    mslr = modulations.MSLR(window=2)
    mslr.build(["a", "b"])
    np.testing.assert_allclose(
        epoch_end(mslr, 0, [0.2, 0.5], "accuracy"), [1.0, 1.0]
    )
    np.testing.assert_allclose(
        epoch_end(mslr, 1, [0.6, 0.3], "accuracy"), [1.5, 0.75], rtol=1e-6
    )
    # The first epoch is out of the window.
    np.testing.assert_allclose(
        epoch_end(mslr, 2, [0.2, 0.5], "accuracy"), [0.5, 1.25], rtol=1e-6
    )


def test_mses_stops_where_the_smoothed_loss_has_no_new_minimum():
    mses = modulations.MSES(patience=2, smoothing=0.4)
    mses.build(["a", "b"], {"a": [], "b": []})
    # a falls all the time; b: 1, 1.4, 1.64.
    losses = [(3.0, 1.0), (2.0, 2.0), (1.0, 2.0)]
    after = [epoch_end(mses, n, v, "loss") for n, v in enumerate(losses)]
    np.testing.assert_array_equal(after, [[1, 1], [1, 1], [1, 0]])
    np.testing.assert_allclose(mses.smoothed, [1.96, 1.64], rtol=1e-6)
    # For good.
    np.testing.assert_array_equal(
        epoch_end(mses, 3, (0.5, 0.0), "loss"), [1, 0]
    )


def test_mses_counts_no_epochs_before_it_starts():
    mses = modulations.MSES(patience=1, start=2)
    mses.build(["a", "b"], {"a": [], "b": []})
    for epoch, loss in enumerate([1.0, 2.0, 3.0]):
        mses.on_epoch_begin(epoch)
        after = epoch_end(mses, epoch, (loss, loss), "loss")
    np.testing.assert_array_equal(after, [1, 1])
    mses.on_epoch_begin(3)
    np.testing.assert_array_equal(
        epoch_end(mses, 3, (4.0, 0.0), "loss"), [0, 1]
    )


BY_BATCH = ["ogm", "mlb"]


@pytest.mark.parametrize("name", BY_BATCH)
def test_who_is_ahead_is_slowed_and_who_is_behind_is_not(name):
    rng = np.random.default_rng(0)
    modulation = modulations.get(name)
    for scores in rng.uniform(0.01, 1, (50, 2)):
        after = factors(modulation, scores)
        assert after[scores.argmax()] < 1 <= after[scores.argmin()]


@pytest.mark.parametrize("name", BY_BATCH)
def test_a_score_of_zero_gives_a_finite_factor(name):
    assert np.isfinite(factors(modulations.get(name), [0.0, 1.0])).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_leaves_factors_and_state_alone(bad):
    agm = modulations.AGM()
    factors(agm, [0.5, 0.5], [1.0, 2.0])
    before = [ops.convert_to_numpy(v) for v in agm.variables]
    np.testing.assert_array_equal(factors(agm, [0.5, 0.5], [bad, 1.0]), [1, 1])
    for old, new in zip(before, agm.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_acts_in_its_epochs_only():
    ogm = modulations.OGM(start=1, stop=3)
    seen = []
    for epoch in range(4):
        if not ogm.built:
            ogm.build(["a", "b"])
        ogm.on_epoch_begin(epoch)
        seen.append(float(factors(ogm, [0.9, 0.1])[0]) < 1)
    assert seen == [False, True, True, False]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: modulations.OGM(alpha=0), "`alpha`"),
        (lambda: modulations.OGM(alpha=1)([0.1, 0.2, 0.3]), "below 1"),
        (lambda: modulations.OGM(start=-1), "`start`"),
        (lambda: modulations.OGM(start=3, stop=3), "`stop`"),
        (lambda: modulations.OGM(scale="loss"), "`scale`"),
        (lambda: modulations.MLB(beta=1.0), "`beta`"),
        (lambda: modulations.MSES(smoothing=1.5), "`smoothing`"),
        (lambda: modulations.get("oggm"), "agm"),
        (lambda: modulations.OGM()([0.5]), "two modalities"),
        (lambda: modulations.OGM()([0.5, 0.1], [1.0]), "`losses`"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", modulations.names())
def test_config_and_names(name):
    modulation = modulations.get(name)
    config = keras.saving.serialize_keras_object(modulation)
    again = modulations.get(config)
    assert type(again) is type(modulation)
    assert again.get_config() == modulation.get_config()
    assert modulations.get(modulation) is modulation
