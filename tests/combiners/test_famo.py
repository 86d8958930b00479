"""FAMO's update by hand, and the second look at a batch that it takes."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import FAMOCombiner
from keras_mimo.combiners import Smoothed
from tests.backends import compiled

NAMES = ["a", "b", "c"]


def array(x):
    return ops.convert_to_numpy(x).copy()


def softmax(scores):
    terms = np.exp(scores - np.max(scores))
    return terms / np.sum(terms)


class ByHand:
    """The formula of the paper, for objectives all there."""

    def __init__(self, count, rate=0.025, decay=1e-3, lowest=0.0):
        self.rate, self.decay, self.lowest = rate, decay, lowest
        self.xi, self.first, self.second = np.zeros((3, count))
        self.step = 0

    def distances(self, losses):
        return np.asarray(losses, "float64") - self.lowest + 1e-8

    def weights(self, losses):
        z = softmax(self.xi)
        c = 1 / np.sum(z / self.distances(losses))
        return c * z / self.distances(losses)

    def update(self, old, new):
        delta = np.log(self.distances(old)) - np.log(self.distances(new))
        z = softmax(self.xi)
        jacobian = np.diag(z) - np.outer(z, z)
        slope = jacobian.T @ delta + self.decay * self.xi
        self.step += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        mean = self.first / (1 - 0.9**self.step)
        square = self.second / (1 - 0.999**self.step)
        self.xi = self.xi - self.rate * mean / (np.sqrt(square) + 1e-8)


LOW = [0.05, 0.0, -0.5]


def steps(count=6):
    rng = np.random.default_rng(0)
    for _ in range(count):
        old = rng.uniform(0.1, 3, 3)
        yield old, old * rng.uniform(0.6, 1.1, 3)


@pytest.mark.parametrize(
    "rate, decay, lowest", [(0.025, 1e-3, 0.0), (0.3, 0.5, LOW), (0, 1, 0)]
)
def test_steps_by_hand(rate, decay, lowest):
    combiner = FAMOCombiner(rate, decay, lowest)
    combiner.build(NAMES)
    hand = ByHand(3, rate, decay, np.array(lowest))
    for old, new in steps():
        found = array(combiner(old.astype("float32")))
        np.testing.assert_allclose(found, hand.weights(old), rtol=1e-5)
        combiner.after_step(new.astype("float32"))
        hand.update(old, new)
        # A difference of logarithms keeps five digits.
        np.testing.assert_allclose(
            array(combiner.logits), hand.xi, rtol=1e-4, atol=1e-6
        )
    assert (np.ptp(hand.xi) > 0.01) == (rate > 0)


def test_the_loss_that_fell_least_gets_more():
    combiner = FAMOCombiner()
    combiner(np.array([1.0, 2, 3], "float32"))
    combiner.after_step(np.array([0.9, 1.9, 1.5], "float32"))
    logits = array(combiner.logits)
    assert logits[1] > 0 > logits[2]
    weights = array(combiner(np.ones(3, "float32")))
    np.testing.assert_allclose(weights, softmax(logits), rtol=1e-5)


def test_an_absent_objective_keeps_its_state():
    combiner = FAMOCombiner()
    combiner.build(NAMES)
    hand, pair = ByHand(3), ByHand(2)
    (old, new), (old_pair, new_pair) = steps(2)
    combiner(old.astype("float32"))
    combiner.after_step(new.astype("float32"))
    hand.update(old, new)
    before = [array(v) for v in combiner.variables[:4]]
    active = np.array([True, False, True])
    for name in ("xi", "first", "second"):
        setattr(pair, name, getattr(hand, name)[active])
    pair.step = 1
    old_pair, new_pair = old_pair.astype("f"), new_pair.astype("f")
    old_pair[1] = new_pair[1] = np.nan
    weights = array(combiner(old_pair, active=active))
    assert weights[1] == 0
    np.testing.assert_allclose(
        weights[active], pair.weights(old_pair[active]), rtol=1e-5
    )
    combiner.after_step(new_pair, active=active)
    pair.update(old_pair[active], new_pair[active])
    logits = array(combiner.logits)
    np.testing.assert_allclose(logits[active], pair.xi, rtol=1e-4)
    for was, v in zip(before, combiner.variables[:4], strict=True):
        assert array(v)[1] == was[1]
        assert np.all(array(v)[active] != was[active])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_losses_after_the_step_change_nothing(bad):
    combiner = FAMOCombiner()
    combiner(np.array([1.0, 2, 3], "float32"))
    before = [array(v) for v in combiner.variables]
    combiner.after_step(np.array([0.5, bad, 3], "float32"))
    combiner.after_step(np.ones(3, "float32"), active=[False] * 3)
    for was, v in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), was)


def test_losses_at_and_below_their_minimum():
    combiner = FAMOCombiner(min_losses={"b": 2.0})
    combiner.build(NAMES)
    weights = array(combiner(np.array([1.0, 1.5, 1], "float32")))
    np.testing.assert_allclose(weights, [1e-8, 1, 1e-8], rtol=1e-5)
    combiner.after_step(np.array([0.5, 1.5, 0.9], "float32"))
    assert np.all(np.isfinite(array(combiner.logits)))


def test_compiled_update():
    combiner = FAMOCombiner()
    combiner.build(NAMES)
    (old, new), *_ = steps()

    def logits(old, new):
        with keras.StatelessScope() as scope:
            combiner(old)
            combiner.after_step(new)
        return scope.get_current_value(combiner.logits)

    found = compiled(logits)(old.astype("float32"), new.astype("float32"))
    hand = ByHand(3)
    hand.update(old, new)
    np.testing.assert_allclose(found, hand.xi, rtol=1e-4)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, {"a": 2 * x[:, :1], "b": x[:, 1:2] ** 2 - 3}


def model(combiner, rate=0.05, dropout=0.0, run_eagerly=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(6, activation="tanh")(inputs)
    shared = layers.Dropout(dropout)(shared)
    outputs = {name: layers.Dense(1)(shared) for name in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(rate),
        "mse",
        combiner=combiner,
        run_eagerly=run_eagerly,
    )
    return model


# Op by op, JAX needs as long for one step as for all other tests.
in_every_way = pytest.mark.parametrize(
    "run_eagerly",
    [False] if keras.backend.backend() == "jax" else [False, True],
)


def losses_of(model, x, y):
    predicted = model(x, training=False)
    errors = [array(predicted[n]).astype("float64") - y[n] for n in y]
    return np.mean(np.square(errors), axis=(1, 2))


@in_every_way
def test_a_model_moves_the_logits_as_by_hand(run_eagerly):
    x, y = data()
    trained = model(FAMOCombiner(), run_eagerly=run_eagerly)
    hand = ByHand(2)
    for _ in range(4):
        old = losses_of(trained, x, y)
        logs = trained.train_on_batch(x, y, return_dict=True)
        weights = hand.weights(old)
        np.testing.assert_allclose(logs["loss"], weights @ old, rtol=1e-5)
        found = [logs["a_weight"], logs["b_weight"]]
        np.testing.assert_allclose(found, weights, rtol=1e-5)
        hand.update(old, losses_of(trained, x, y))
        np.testing.assert_allclose(
            array(trained.combiner.logits), hand.xi, rtol=1e-3
        )
        trained.reset_metrics()
    assert np.ptp(hand.xi) > 0.05


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_without_a_step_only_the_decay_moves_the_logits(decay):
    x, y = data()
    # Eagerly, since a compiler may round the two passes differently.
    trained = model(FAMOCombiner(decay=decay), 0.0, 0.5, run_eagerly=True)
    trained.train_on_batch(x, y)
    start = np.array([0.5, -0.5], "float32")
    np.testing.assert_array_equal(array(trained.combiner.logits), [0, 0])
    trained.combiner.logits.assign(start)
    trained.train_on_batch(x, y)
    moved = array(trained.combiner.logits) - start
    hand = ByHand(2, decay=decay)
    hand.update(np.ones(2), np.ones(2))
    hand.xi = start
    hand.update(np.ones(2), np.ones(2))
    np.testing.assert_allclose(moved, hand.xi - start, atol=1e-6)
    assert np.all(moved == 0) if decay == 0 else np.all(np.abs(moved) > 0.01)


def test_smoothed():
    """The wrapper passes on what comes after the step."""
    x, y = data()
    trained = model(Smoothed(FAMOCombiner(), momentum=0.5))
    assert trained.combiner.looks_again
    hand, total = ByHand(2), np.zeros(2)
    for step in range(3):
        old = losses_of(trained, x, y)
        logs = trained.train_on_batch(x, y, return_dict=True)
        total = 0.5 * total + 0.5 * hand.weights(old)
        found = [logs["a_weight"], logs["b_weight"]]
        np.testing.assert_allclose(
            found, total / (1 - 0.5 ** (step + 1)), rtol=1e-5
        )
        hand.update(old, losses_of(trained, x, y))
        logits = array(trained.combiner.combiner.logits)
        np.testing.assert_allclose(logits, hand.xi, rtol=1e-3)
        trained.reset_metrics()


def test_evaluation_does_not_look_again():
    x, y = data()
    trained = model(FAMOCombiner())
    trained.train_on_batch(x, y)
    before = [array(v) for v in trained.combiner.variables]
    trained.evaluate(2 * x, y, verbose=0)
    trained.test_on_batch(2 * x, y)
    for was, v in zip(before, trained.combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), was)
