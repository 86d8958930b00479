"""Combiners of losses in whole models: saved, half precision, compiled."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import DWACombiner
from keras_mimo.combiners import FAMOCombiner
from keras_mimo.combiners import GLSCombiner
from keras_mimo.combiners import IMTLLCombiner
from keras_mimo.combiners import RLWCombiner
from keras_mimo.combiners import Smoothed
from keras_mimo.combiners import STCHCombiner
from keras_mimo.combiners import UncertaintyCombiner
from tests.quick import quick

BACKEND = keras.backend.backend()
WITHOUT_STATE = {
    "gls": GLSCombiner,
    "stch": lambda: STCHCombiner(0.5, {"a": 0.01}, {"a": 1, "b": 2, "c": 1}),
}
WITH_STATE = {
    "dwa": DWACombiner,
    "famo": FAMOCombiner,
    "imtll": IMTLLCombiner,
    "rlw": lambda: RLWCombiner(seed=3),
    "smoothed_famo": lambda: Smoothed(FAMOCombiner()),
    "uncertainty": UncertaintyCombiner,
}
MAKERS = WITHOUT_STATE | WITH_STATE
OPTIONS = dict(batch_size=8, shuffle=False, verbose=0)
NAMES = ("a", "b", "c")


def array(x):
    return ops.convert_to_numpy(x).copy()


def arrays(variables):
    return [array(v) for v in variables]


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    return x, {"a": x[:, :1], "b": 2 * x[:, 1:2], "c": x[:, 2:3] ** 2}


def model(combiner, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(8, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1)(shared) for name in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(0.02), "mse", combiner=combiner, **options
    )
    return model


def assert_it_learns(history):
    totals = np.sum([history[f"{name}_loss"] for name in NAMES], axis=0)
    assert np.all(np.isfinite(totals))
    assert totals[-1] < 0.8 * totals[0]


def assert_same(first, second, tolerance):
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_allclose(array(a), array(b), atol=tolerance)


@pytest.mark.parametrize("case", quick(["rlw", "smoothed_famo"], MAKERS))
def test_trains_saves_and_continues_identically(case, tmp_path):
    x, y = data()
    trained = model(MAKERS[case]())
    trained.combiner.build(list(NAMES))
    before = arrays(trained.combiner.variables)
    history = trained.fit(x, y, epochs=5, **OPTIONS).history
    assert_it_learns(history)
    state = arrays(trained.combiner.variables)
    moved = [np.any(a != b) for a, b in zip(before, state, strict=True)]
    assert any(moved) == (case in WITH_STATE)
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.combiner.get_config() == trained.combiner.get_config()
    for was, v in zip(state, loaded.combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), was)
    logs = [m.fit(x, y, epochs=2, **OPTIONS).history for m in (trained, loaded)]
    assert set(logs[0]) == set(logs[1])
    for key in logs[0]:
        np.testing.assert_allclose(logs[0][key], logs[1][key], rtol=1e-5)
    assert_same(trained, loaded, 1e-6)
    assert_same(trained.optimizer, loaded.optimizer, 1e-6)


@pytest.mark.parametrize(
    "case", quick(["uncertainty"], ["famo", "imtll", "uncertainty"])
)
def test_half_precision(case):
    """It learns, and an overflow moves neither model nor combiner."""
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trained = model(MAKERS[case]())
    finally:
        keras.config.set_dtype_policy("float32")
    # So that no step is skipped before the one below.
    trained.optimizer.initial_scale = 1024.0
    assert_it_learns(trained.fit(x, y, epochs=5, **OPTIONS).history)
    assert all(v.dtype == "float32" for v in trained.combiner.variables)
    state = [*trained.combiner.variables, *trained.trainable_variables]
    before = arrays(state)
    assert all(np.all(np.isfinite(a)) for a in before)
    assert np.all(np.abs(before[0]) > 1e-3)
    scale = float(trained.optimizer.dynamic_scale)
    trained.train_on_batch(x[:8], {k: v[:8] * np.inf for k, v in y.items()})
    assert float(trained.optimizer.dynamic_scale) == scale / 2
    for was, v in zip(before, state, strict=True):
        np.testing.assert_array_equal(array(v), was)
    trained.train_on_batch(x[:8], {k: v[:8] for k, v in y.items()})
    assert np.all(array(state[0]) != before[0])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dwa", "famo", "rlw", "stch", "uncertainty"])
def test_compiled_as_eager(case):
    x, y = data()
    # XLA, where it is fast to compile for.
    xla = {"jit_compile": BACKEND != "torch"}
    models = [model(MAKERS[case](), **o) for o in (xla, {"run_eagerly": True})]
    logs = [m.fit(x, y, epochs=3, **OPTIONS).history for m in models]
    if case == "rlw":
        # XLA has random numbers of its own.
        for history in logs:
            weights = np.array([history[f"{n}_weight"] for n in NAMES])
            np.testing.assert_allclose(np.sum(weights, axis=0), 1, rtol=1e-5)
            assert np.ptp(weights) > 0.1
            assert_it_learns(history)
    else:
        assert_same(*models, 1e-5)


@pytest.mark.slow
def test_several_steps_per_execution():
    x, y = data()
    models = [model(FAMOCombiner(), steps_per_execution=n) for n in (1, 3)]
    for each in models:
        try:
            each.fit(x, y, epochs=2, **OPTIONS)
        except ValueError as error:
            # As plain Keras, up to 3.15.
            assert BACKEND == "torch" and "must be 1" in str(error)
            return
    assert_same(*models, 1e-5)
