"""GradNorm's update by hand, and where it leads."""

import numpy as np
import pytest
from keras import ops

from keras_mimo.combiners import GradNormCombiner
from tests.oracles import J3

NAMES = ["a", "b", "c"]


def array(x):
    return ops.convert_to_numpy(x).copy()


class ByHand:
    """The formula of the paper, for objectives all there."""

    def __init__(self, count, alpha=1.5, rate=0.025):
        self.alpha, self.rate = alpha, rate
        self.weights = np.ones(count)
        self.velocity, self.square = np.zeros((2, count))
        self.first, self.step = None, 0

    def update(self, losses, rows):
        lengths = np.linalg.norm(rows, axis=1)
        self.first = losses if self.first is None else self.first
        rates = losses / self.first
        rates = rates / np.mean(rates)
        norms = self.weights * lengths
        targets = np.mean(norms) * rates**self.alpha
        slope = np.sign(norms - targets) * lengths
        self.step += 1
        self.velocity = 0.9 * self.velocity + 0.1 * slope
        self.square = 0.999 * self.square + 0.001 * slope**2
        mean = self.velocity / (1 - 0.9**self.step)
        size = np.sqrt(self.square / (1 - 0.999**self.step)) + 1e-8
        learnt = np.maximum(self.weights - self.rate * mean / size, 0)
        self.weights = len(learnt) * learnt / np.sum(learnt)


def steps(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield rng.uniform(0.1, 3, 3), J3 * rng.uniform(0.2, 2, (3, 1))


def take(combiner, losses, rows, **arguments):
    losses, gramian = (x.astype("float32") for x in (losses, rows @ rows.T))
    return array(combiner(losses, gramian, **arguments))


@pytest.mark.parametrize("alpha, rate", [(1.5, 0.025), (0.12, 0.1), (1, 1.1)])
def test_steps_by_hand(alpha, rate):
    combiner = GradNormCombiner(alpha, rate)
    combiner.build(NAMES)
    hand = ByHand(3, alpha, rate)
    lowest = []
    for losses, rows in steps(6):
        # The weights of a step are those learnt before it.
        found = take(combiner, losses, rows)
        np.testing.assert_allclose(found, hand.weights, rtol=1e-4, atol=1e-6)
        hand.update(losses, rows)
        lowest.append(np.min(hand.weights))
    assert np.ptp(hand.weights) > 0.01
    # A rate so large that a weight would have become negative.
    assert (min(lowest) == 0) == (rate > 1)


def learnt(combiner, losses, count=100):
    take(combiner, np.ones(3), J3)
    for _ in range(count):
        weights = take(combiner, np.array(losses), J3)
    return weights


def test_lengths_become_alike():
    weights = learnt(GradNormCombiner(0, 0.04), [0.9, 0.5, 0.1])
    np.testing.assert_allclose(np.sum(weights), 3, rtol=1e-5)
    norms = weights * np.linalg.norm(J3, axis=1)
    np.testing.assert_allclose(norms / np.mean(norms), 1, atol=0.1)


def test_what_trains_slowly_gets_a_longer_gradient():
    """As long as its loss, relative to the first, has remained."""
    weights = learnt(GradNormCombiner(1, 0.04), [0.9, 0.6, 0.3])
    norms = weights * np.linalg.norm(J3, axis=1)
    np.testing.assert_allclose(norms / np.mean(norms), [1.5, 1, 0.5], atol=0.1)


def test_an_absent_objective_keeps_its_state():
    combiner = GradNormCombiner()
    combiner.build(NAMES)
    (losses, rows), (later, later_rows), _ = steps(3)
    take(combiner, losses, rows)
    before = [array(v) for v in combiner.variables]
    active = np.array([True, False, True])
    later[1] = later_rows[1] = np.nan
    assert take(combiner, later, later_rows, active=active)[1] == 0
    learnt, old = array(combiner.task_weights), before[0]
    np.testing.assert_allclose(np.sum(learnt), 3, rtol=1e-6)
    for was, v in zip(before, combiner.variables, strict=True):
        assert array(v)[1] == was[1]
    for was, v in zip(before[:4], combiner.variables, strict=False):
        assert np.all(array(v)[active] != was[active])
    assert np.all(learnt[active] != old[active])


def test_losses_without_a_rate():
    """None is known of a loss that was 0, and one below 0 has done its part."""
    combiner = GradNormCombiner()
    combiner.build(NAMES)
    for losses in ([0, 1, -1], [2, 0, -1], [1, -1, 0], [0, 0, 0]):
        weights = take(combiner, np.array(losses, "float32"), J3)
        assert np.all(weights >= 0)
        np.testing.assert_allclose(np.sum(weights), 3, rtol=1e-5)
    np.testing.assert_array_equal(array(combiner.first_losses), [2, 1, 0])
    # Without gradients there is nothing to learn from.
    combiner = GradNormCombiner()
    for _ in range(2):
        np.testing.assert_array_equal(take(combiner, np.ones(3), 0 * J3), 1)


def test_evaluation_learns_nothing():
    combiner = GradNormCombiner()
    combiner.build(NAMES)
    take(combiner, np.ones(3), J3)
    before = [array(v) for v in combiner.variables]
    take(combiner, np.ones(3), J3, training=False)
    take(combiner, np.array([1, np.nan, 1]), J3)
    for was, v in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), was)
