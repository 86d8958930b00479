import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import EveryN
from keras_mimo.combiners import GradDropCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import Smoothed
from keras_mimo.combiners import SumCombiner
from tests.backends import KERAS
from tests.backends import run_on_host
from tests.quick import quick

J = np.array([[3, 0, 1, 0], [-2, 2, 0, 1], [-1, -3, 1, 2]], dtype="float32")


def weigh(combiner, rows=None, active=None):
    gramian = None if rows is None else rows @ rows.T
    losses = np.ones(3, "float32")
    return ops.convert_to_numpy(combiner(losses, gramian, active=active))


def test_weights_are_kept_between_the_steps_that_solve():
    combiner = EveryN(MGDACombiner(), n=3)
    rng = np.random.default_rng(0)
    for step in range(7):
        rows = rng.normal(size=(3, 6)).astype("float32")
        if step % 3 == 0:
            expected = weigh(MGDACombiner(), rows)
        assert bool(combiner.due() if combiner.built else True) == (
            step % 3 == 0
        )
        # Without a Gramian, or with one that is not looked at.
        given = None if step % 3 == 1 else rows
        np.testing.assert_allclose(weigh(combiner, given), expected, atol=1e-6)


def test_the_inner_state_advances_only_in_the_steps_that_solve():
    smoothed = Smoothed(MGDACombiner(), momentum=0.5, of="gramian")
    combiner = EveryN(smoothed, n=2)
    weigh(combiner, J)
    before = [ops.convert_to_numpy(v).copy() for v in smoothed.variables]
    weigh(combiner, 3 * J)
    for old, variable in zip(before, smoothed.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    weigh(combiner, 3 * J)
    assert np.any(before[0] != ops.convert_to_numpy(smoothed.variables[0]))


def test_an_objective_that_was_absent_starts_with_the_mean_weight():
    combiner = EveryN(MGDACombiner(normalization="l2"), n=2)
    first = weigh(combiner, J, np.array([True, True, False]))
    assert first[2] == 0
    second = weigh(combiner)
    np.testing.assert_allclose(second[:2], first[:2])
    np.testing.assert_allclose(second[2], first[:2].mean(), rtol=1e-6)
    third = weigh(combiner, J)
    weigh(combiner)
    weigh(combiner, 2 * J, np.array([True, False, True]))
    fourth = weigh(combiner)
    assert fourth[1] == third[1]
    assert fourth[0] != third[0]


def test_a_step_that_is_not_finite_is_tried_again():
    combiner = EveryN(MGDACombiner(), n=3)
    np.testing.assert_array_equal(weigh(combiner, J * np.nan), np.ones(3))
    assert bool(combiner.due())
    np.testing.assert_allclose(weigh(combiner, J), weigh(MGDACombiner(), J))
    assert not bool(combiner.due())


SOLVED = []


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Counted(MGDACombiner):
    """Counts how often it is really computed."""

    def call(self, *args):
        run_on_host(lambda: SOLVED.append(1))
        return super().call(*args)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype("float32")
    return x, {"a": x[:, :1], "b": -x[:, :1] + x[:, 1:2]}


def compiled(combiner, **arguments):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    # A recurrent layer: its loop must be differentiated in a branch, too.
    x = layers.Reshape((2, 2))(inputs)
    x = layers.GRU(6, name="z")(x)
    model = keras_mimo.BalancedModel(
        inputs, {name: layers.Dense(1, name=name)(x) for name in ("a", "b")}
    )
    model.compile(
        keras.optimizers.SGD(0.05), "mse", combiner=combiner, **arguments
    )
    return model


OPTIONS = dict(batch_size=8, shuffle=False, verbose=0)


@pytest.mark.parametrize(
    "arguments", quick([{}], [{}, {"gradients_at": "z"}, {"blocks": "layer"}])
)
def test_a_model_computes_the_gramian_in_every_nth_step_only(arguments):
    SOLVED.clear()
    blocks = 3 if "blocks" in arguments else 1
    model = compiled(EveryN(Counted(), n=3), **arguments)
    history = model.fit(*data(), epochs=2, **OPTIONS).history
    # 12 steps, and perhaps one while the model was built without values.
    assert len(SOLVED) in (4 * blocks, 4 * blocks + 1)
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.slow
def test_every_step_is_as_without_the_wrapper():
    weights = []
    for combiner in (EveryN(MGDACombiner(), n=1), MGDACombiner()):
        model = compiled(combiner)
        model.fit(*data(), epochs=2, **OPTIONS)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_several_steps_per_execution():
    if keras.backend.backend() == "torch" and KERAS < (3, 16):
        model = compiled(EveryN(MGDACombiner()), steps_per_execution=4)
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
            model.fit(*data(), **OPTIONS)
        return
    weights = []
    for steps in (1, 4):
        # Six batches: the second execution is cut short.
        model = compiled(EveryN(MGDACombiner(), n=3), steps_per_execution=steps)
        model.fit(*data(), epochs=2, **OPTIONS)
        assert int(model.optimizer.iterations) == 12
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_between_the_solutions_the_update_is_that_of_the_kept_weights():
    x, y = data()
    model = compiled(EveryN(MGDACombiner(), n=2))
    logs = model.train_on_batch(x, y, return_dict=True)
    kept = {name: float(logs[f"{name}_weight"]) for name in ("a", "b")}
    fixed = compiled(keras_mimo.ConstantCombiner(kept))
    fixed.set_weights(model.get_weights())
    for each in (model, fixed):
        each.train_on_batch(x, y)
    for a, b in zip(model.get_weights(), fixed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_a_model_is_saved_between_two_solutions(tmp_path):
    x, y = data()
    model = compiled(EveryN(Smoothed(MGDACombiner(), of="gramian"), n=4))
    model.fit(x, y, **OPTIONS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(loaded.combiner.step) == 2
    for each in (model, loaded):
        each.fit(x, y, **OPTIONS)
    # Not the seeds of the GRU, which Keras does not save.
    found, expected = (
        m.weights + m.combiner.variables for m in (model, loaded)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-6
        )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EveryN(MGDACombiner(), n=0), "n=0"),
        (lambda: EveryN(MGDACombiner(), n=2.0), "n=2.0"),
        (lambda: EveryN(SumCombiner()), "`combiner` must need the Gramian"),
        (lambda: EveryN(GradDropCombiner()), "GradDropCombiner has none"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
