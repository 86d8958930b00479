"""Combiners that treat every coordinate on its own."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import GradDropCombiner
from keras_mimo.combiners import TrimmedMeanCombiner
from tests.quick import quick

J = np.array(
    [[3, 0, 1, 0], [-2, 2, 0, 1], [-1, -3, 1, 2], [4, 9, -5, 0]], "float32"
)


def combine(combiner, rows=J, **arguments):
    return ops.convert_to_numpy(combiner.combine(rows, **arguments))


def test_graddrop_keeps_one_sign_in_every_coordinate():
    positive = np.maximum(J, 0).sum(axis=0)
    negative = np.minimum(J, 0).sum(axis=0)
    combiner = GradDropCombiner(seed=0)
    draws = np.array([combine(combiner) for _ in range(400)])
    assert np.all((draws == positive) | (draws == negative))
    share = positive / (positive - negative)
    found = (draws == positive).mean(axis=0)
    # Four standard deviations of a draw's mean, and none for a certain sign.
    margin = 4 * np.sqrt(share * (1 - share) / 400)
    assert np.all(np.abs(found - share) <= margin)
    mean = combine(combiner, training=False)
    np.testing.assert_allclose(
        mean, share * positive + (1 - share) * negative, rtol=1e-6
    )


def test_graddrop_draws_anew_and_repeats_with_a_seed():
    first, second = GradDropCombiner(seed=1), GradDropCombiner(seed=1)
    rows = np.random.default_rng(0).normal(size=(3, 200)).astype("float32")
    draws = [combine(first, rows) for _ in range(3)]
    for draw in draws:
        np.testing.assert_array_equal(combine(second, rows), draw)
    assert np.any(draws[0] != draws[1])


def test_a_coordinate_without_gradient_stays():
    rows = np.zeros((3, 2), "float32")
    np.testing.assert_array_equal(combine(GradDropCombiner(), rows), [0, 0])


@pytest.mark.parametrize("trim, kept", [(0, slice(0, 4)), (1, slice(1, 3))])
def test_trimmed_mean_leaves_out_the_extremes(trim, kept):
    expected = np.sort(J, axis=0)[kept].mean(axis=0)
    found = combine(TrimmedMeanCombiner(trim=trim))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_trimming_leaves_at_least_one_or_two():
    ordered = np.sort(J, axis=0)
    found = combine(TrimmedMeanCombiner(trim=5))
    np.testing.assert_allclose(found, ordered[1:3].mean(axis=0), rtol=1e-6)
    odd = combine(TrimmedMeanCombiner(trim=5), J[:3])
    np.testing.assert_allclose(odd, np.median(J[:3], axis=0))
    two = combine(TrimmedMeanCombiner(), J[:2])
    np.testing.assert_allclose(two, J[:2].mean(axis=0))


@pytest.mark.parametrize("cls", [GradDropCombiner, TrimmedMeanCombiner])
def test_what_is_absent_takes_no_part(cls):
    active = np.array([True, False, True, True])
    rows = J.copy()
    rows[1] = np.nan
    found = combine(
        cls(seed=0) if cls is GradDropCombiner else cls(),
        rows,
        active=active,
        training=False,
    )
    expected = combine(cls(), J[active], training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    nothing = combine(cls(), rows, active=np.zeros(4, bool))
    np.testing.assert_array_equal(nothing, np.zeros(4))
    one = combine(cls(), rows, active=np.arange(4) == 2)
    np.testing.assert_array_equal(one, J[2])


@pytest.mark.parametrize("cls", [GradDropCombiner, TrimmedMeanCombiner])
def test_what_is_not_finite_is_seen(cls):
    rows = J.copy()
    rows[1, 2] = np.nan
    assert np.isnan(combine(cls(), rows)[2])


@pytest.mark.parametrize("cls", [GradDropCombiner, TrimmedMeanCombiner])
def test_traits(cls):
    mean = combine(cls(), training=False)
    for scale in (2.0**-30, 2.0**30):
        scaled = combine(cls(), J * np.float32(scale), training=False)
        np.testing.assert_allclose(scaled, mean * scale, rtol=1e-6)
    order = [2, 0, 3, 1]
    found = combine(cls(), J[order], training=False)
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)


NAMES = ("a", "b", "c")


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2], x[:, 2:3] ** 2]
    return x, dict(zip(NAMES, targets, strict=True))


def compiled(combiner, rate=1.0, **arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="tanh", name="shared")(inputs)
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(rate), "mse", combiner=combiner, **arguments
    )
    return model


def update(combiner, **arguments):
    model = compiled(combiner, **arguments)
    before = model.get_weights()
    model.train_on_batch(*data())
    after = model.get_weights()
    return [a - b for a, b in zip(before, after, strict=True)]


def test_the_update_of_a_model_is_per_variable_and_reach():
    rows = [update(keras_mimo.ConstantCombiner({name: 1.0})) for name in NAMES]
    found = update(TrimmedMeanCombiner())
    for k in range(2):
        expected = np.median([row[k] for row in rows], axis=0)
        np.testing.assert_allclose(found[k], expected, atol=1e-6)
    for k in range(2, 8):
        # Only its own objective reaches a head.
        own = rows[(k - 2) // 2][k]
        np.testing.assert_allclose(found[k], own, atol=1e-6)


@pytest.mark.slow
def test_the_variables_that_are_not_balanced_get_the_weights():
    rows = [update(keras_mimo.ConstantCombiner({name: 1.0})) for name in NAMES]
    found = update(TrimmedMeanCombiner(), balanced_variables=["shared/kernel"])
    expected = np.median([row[0] for row in rows], axis=0)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    mean = sum(row[1] for row in rows) / 3
    np.testing.assert_allclose(found[1], mean, atol=1e-6)


@pytest.mark.parametrize(
    "cls", quick([GradDropCombiner], [GradDropCombiner, TrimmedMeanCombiner])
)
def test_training_goes_on_after_loading(cls, tmp_path):
    options = dict(batch_size=8, shuffle=False, verbose=0)
    model = compiled(cls(), 0.05)
    history = model.fit(*data(), epochs=4, **options).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert set(history) == {"loss", "a_loss", "b_loss", "c_loss"}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(*data(), epochs=2, **options)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
        )


@pytest.mark.parametrize("trim", [-1, 1.5, "1", True])
def test_bad_trim(trim):
    with pytest.raises(ValueError, match="`trim` must be"):
        TrimmedMeanCombiner(trim=trim)
