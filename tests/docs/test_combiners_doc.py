"""The code of the pages on combiners runs, and does what they say."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_mimo
from keras_mimo import combiners
from tests.backends import gradient
from tests.documents import given
from tests.documents import python_blocks

DOCS = Path(__file__).parents[2] / "docs"


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    return x, {"depth": 5 * x[:, :1], "angle": x[:, 1:2] + x[:, 2:3]}


def run(page, names):
    """Runs each block; yields the names that are known after it."""
    for block in python_blocks(DOCS / page):
        exec(block, names)
        yield names


def two_heads(combiner):
    """A linear model at 0, whose gradients are known."""
    inputs = keras.Input((4,))
    outputs = {
        name: keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(
            inputs
        )
        for name in ("depth", "angle")
    }
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), "mse", combiner=combiner)
    return model


@pytest.mark.slow
def test_the_page_to_choose_by():
    x, y = data()
    names = given()
    names["model"] = two_heads(None)
    steps = run("combiners.md", names)

    model = next(steps)["model"]
    assert type(model.combiner) is combiners.UPGradCombiner
    assert model.combiner.preference == [2.0, 1.0]

    model = next(steps)["model"]
    assert type(model.combiner) is combiners.MMParetoCombiner
    history = model.fit(names["train"], verbose=0).history
    assert np.all(np.isfinite(history["loss"]))

    combiner = next(steps)["combiner"]
    assert list(steps) == []
    # Only the outermost is asked whether a step needs a Gramian.
    assert combiner.due.__func__ is combiners.EveryN.due
    assert not combiners.Smoothed(combiners.EveryN(combiner)).is_periodic()
    history = two_heads(combiner).fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_a_combiner_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = data()
    names = dict(x=x, y=y)
    steps = run("own_combiner.md", names)

    cls = next(steps)["InverseLengthCombiner"]
    results = next(steps)
    np.testing.assert_allclose(
        numpy(results["by_length"]), [1 / 5, 4 / 5], rtol=1e-6
    )
    np.testing.assert_allclose(
        numpy(results["by_root"]), [1 / 3, 2 / 3], rtol=1e-6
    )

    trained = next(steps)
    model, loaded = trained["model"], trained["loaded"]
    logs = trained["history"].history
    assert logs["loss"][-1] < logs["loss"][0]
    total = np.add(logs["depth_weight"], logs["angle_weight"])
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert type(loaded.combiner) is cls
    assert loaded.combiner.power == 0.5
    for each in (model, loaded):
        each.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(numpy(a), numpy(b), atol=1e-6)

    check_weights(cls)
    check_of_losses(next(steps)["SquaredLossCombiner"])
    assert list(steps) == []


def check_weights(cls):
    # In a model: by the lengths of the gradients of the squared errors.
    x, y = data()
    names = ["depth", "angle"]
    lengths = [np.linalg.norm(x.T @ y[n]) for n in names]
    for power in (0, 0.5, 1, 2):
        model = two_heads(cls(power))
        logs = model.fit(x, y, batch_size=64, verbose=0).history
        scores = np.power(lengths, -float(power))
        expected = scores / np.sum(scores)
        found = [logs[f"{n}_weight"][0] for n in names]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    # On arrays: what is absent, of length 0 or almost, and the traits.
    rows = np.array([[3.0, 4], [0, 0], [1e-12, 0], [5, 5]])
    active = np.array([True, True, True, False])
    gramian = rows @ rows.T
    for power in (0, 1, 4):
        weights = numpy(cls(power)(np.ones(4), gramian, active))
        assert np.all(np.isfinite(weights)) and np.all(weights >= 0)
        assert list(weights > 0)[1::2] == [False, False]
        assert weights[2] > 0
        scaled = numpy(cls(power)(np.ones(4), 2.0**20 * gramian, active))
        np.testing.assert_allclose(scaled, weights, rtol=1e-6)
    nothing = numpy(cls()(np.ones(4), np.zeros((4, 4))))
    np.testing.assert_array_equal(nothing, np.zeros(4))


def check_of_losses(cls):
    combiner = cls()
    losses = np.array([0.5, 2.0, 3.0], "float32")
    active = np.array([True, True, False])
    weights = combiner(losses, active=active)
    np.testing.assert_allclose(numpy(weights), [0.5, 2.0, 0.0])
    active = ops.convert_to_tensor(active)
    slopes = gradient(lambda x: combiner.scalarize(x, weights, active), losses)
    np.testing.assert_allclose(slopes, numpy(weights))

    x, y = data()
    model = two_heads(cls())
    logs = model.evaluate(x, y, batch_size=64, verbose=0, return_dict=True)
    squares = [logs[f"{name}_loss"] ** 2 for name in y]
    np.testing.assert_allclose(logs["loss"], sum(squares) / 2, rtol=1e-5)
    history = model.fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
