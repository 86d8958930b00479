import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import FAMOCombiner
from keras_mimo.combiners import GradDropCombiner
from keras_mimo.combiners import MeanCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import MIMOCombiner
from keras_mimo.combiners import MMParetoCombiner
from keras_mimo.combiners import Rescaled
from keras_mimo.combiners import Smoothed
from keras_mimo.combiners import SumCombiner
from tests.backends import double_precision
from tests.quick import quick
from tests.solvers.problems import scaled

J = np.array([[3, 0, 1, 0], [-2, 2, 0, 1], [-1, -3, 1, 2]], dtype="float32")


def array(x):
    return ops.convert_to_numpy(x)


def weigh(combiner, rows, losses=None, active=None, training=True):
    losses = np.ones(len(rows), rows.dtype) if losses is None else losses
    return array(
        combiner(losses, rows @ rows.T, active=active, training=training)
    )


@pytest.mark.parametrize("to, factor", [("mean", 1), ("sum", 3)])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_rescaled_has_one_direction_and_another_length(scale, to, factor):
    rows = J * np.float32(scale)
    direction = weigh(MGDACombiner(), rows) @ rows
    rescaled = weigh(Rescaled(MGDACombiner(), to), rows) @ rows
    length = factor * np.linalg.norm(rows.mean(axis=0))
    assert np.linalg.norm(rescaled) == pytest.approx(length, rel=1e-5)
    cosine = rescaled @ direction
    cosine /= np.linalg.norm(rescaled) * np.linalg.norm(direction)
    assert cosine == pytest.approx(1.0, abs=1e-6)


def test_rescaled_takes_the_mean_over_the_active_objectives():
    active = np.array([True, False, True])
    rescaled = weigh(Rescaled(MGDACombiner()), J, active=active) @ J
    mean = np.linalg.norm(J[active].mean(axis=0))
    assert np.linalg.norm(rescaled) == pytest.approx(mean, rel=1e-5)


def test_rescaled_leaves_a_vanishing_direction_at_zero():
    rows = np.array([[1.0, 2.0], [-1.0, -2.0]], dtype="float32")
    weights = weigh(Rescaled(MGDACombiner()), rows)
    np.testing.assert_allclose(weights @ rows, 0.0, atol=1e-6)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("dtype", quick(["float32"], ["float32", "float64"]))
@pytest.mark.parametrize(
    "combiner", [Rescaled(MGDACombiner()), MMParetoCombiner()]
)
def test_noise_is_not_stretched(combiner, dtype):
    """The direction is shorter than the rounding of the Gramian."""
    with double_precision():
        for seed in range(8):
            rng = np.random.default_rng(seed)
            rows = rng.normal(size=(9, 11))
            rows = scaled(rng, rows - rows.mean(axis=0), seed % 3)
            weights = weigh(combiner, rows.astype(dtype))
            np.testing.assert_array_equal(weights, 0)
            # A step that all agree on, as long as a thousandth of the others.
            rows = np.hstack([rows, np.full((9, 1), 1e-2 * np.max(abs(rows)))])
            weights = weigh(combiner, rows.astype(dtype))
            assert np.min(rows @ (weights @ rows)) > 0


def test_smoothed_weights_are_the_corrected_average():
    combiner = Smoothed(MGDACombiner(), momentum=0.8)
    total = mass = 0.0
    for step in range(5):
        rows = np.random.default_rng(step).normal(size=(3, 6))
        rows = rows.astype("float32")
        total = 0.8 * total + 0.2 * weigh(MGDACombiner(), rows)
        mass = 0.8 * mass + 0.2
        np.testing.assert_allclose(
            weigh(combiner, rows), total / mass, atol=1e-5
        )


def test_smoothed_gramian_is_what_the_inner_combiner_sees():
    combiner = Smoothed(MGDACombiner(), momentum=0.5, of="gramian")
    np.testing.assert_allclose(
        weigh(combiner, J), weigh(MGDACombiner(), J), atol=1e-6
    )
    other = J[:, ::-1] * np.array([[1.0], [3.0], [0.2]], dtype="float32")
    average = (0.25 * J @ J.T + 0.5 * other @ other.T) / 0.75
    expected = array(MGDACombiner()(np.ones(3, "float32"), average))
    np.testing.assert_allclose(weigh(combiner, other), expected, atol=1e-5)


@pytest.mark.parametrize("of", ["weights", "gramian"])
def test_an_absent_objective_keeps_its_average(of):
    combiner = Smoothed(MGDACombiner(), of=of)
    weigh(combiner, J)
    before = [array(v).copy() for v in combiner.non_trainable_variables]
    active = np.array([True, True, False])
    weights = weigh(combiner, 5 * J, active=active)
    after = [array(v) for v in combiner.non_trainable_variables]
    assert weights[2] == 0
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[..., 2], old[..., 2])
        assert np.abs(new[..., 0] - old[..., 0]).max() > 1e-3


def test_smoothed_state_moves_in_training_only_and_survives_a_nan():
    combiner = Smoothed(MGDACombiner(), of="gramian")
    weigh(combiner, J)
    before = [array(v).copy() for v in combiner.variables]
    weigh(combiner, 2 * J, training=False)
    weigh(combiner, J * np.nan)
    for old, new in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(new), old)


def test_a_smoothed_combiner_of_losses_still_needs_losses_only():
    combiner = Smoothed(MIMOCombiner("a"), momentum=0.5)
    combiner.build(["a", "b", "c"])
    assert combiner.needs == "losses"
    first = array(combiner(np.array([1.0, 2.0, 2.0], "float32")))
    np.testing.assert_allclose(first, [1.0, 0.5, 0.5], atol=1e-6)
    second = array(combiner(np.array([1.0, 9.0, 0.0], "float32")))
    np.testing.assert_allclose(second, [1.0, 0.8333333, 0.1666667], atol=1e-6)


def model(combiner):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(6, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1)(shared) for name in ("a", "b", "c")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.05), "mse", combiner=combiner)
    return model


@pytest.mark.slow
def test_nested_wrappers_train_save_and_continue_identically(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    y = {"a": x[:, :1], "b": -x[:, :1] + x[:, 1:2], "c": x[:, 2:3] ** 2}
    options = dict(batch_size=8, shuffle=False, verbose=0)
    trained = model(
        Rescaled(Smoothed(MGDACombiner(normalization="l2"), of="gramian"))
    )
    history = trained.fit(x, y, epochs=6, **options).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.combiner.combiner.of == "gramian"
    assert loaded.combiner.combiner.combiner.normalization == "l2"
    assert len(loaded.combiner.variables) == 2
    for each in (trained, loaded):
        each.fit(x, y, epochs=2, **options)
    for a, b in zip(trained.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(array(a), array(b), atol=1e-6)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Rescaled("mgda"), TypeError, "`combiner` must be"),
        (lambda: Rescaled(MeanCombiner(), "x"), ValueError, "to='x'"),
        (lambda: Smoothed(SumCombiner(), 1.0), ValueError, "momentum=1.0"),
        (lambda: Smoothed(SumCombiner(), -0.1), ValueError, "momentum=-0.1"),
        (lambda: Smoothed(MeanCombiner(), of="g"), ValueError, "of='g'"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("wrapper", [Rescaled, Smoothed])
def test_what_has_no_weights_can_not_be_wrapped(wrapper):
    with pytest.raises(ValueError, match="GradDropCombiner has none"):
        wrapper(GradDropCombiner())


def test_what_looks_again_is_refused_where_nobody_looks():
    for wrapped in (
        Rescaled(FAMOCombiner()),
        Smoothed(FAMOCombiner(), of="gramian"),
    ):
        with pytest.raises(ValueError, match="needs the Gramian"):
            wrapped.build(["a", "b"])
    Smoothed(FAMOCombiner()).build(["a", "b"])
