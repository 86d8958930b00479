import numpy as np
import pytest
from scipy.optimize import nnls

from keras_mimo.solvers.dual_cone import dual_cone
from tests.backends import FASTEST
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.oracles import J2
from tests.oracles import J3
from tests.solvers.problems import FAMILIES
from tests.solvers.problems import INDEPENDENT
from tests.solvers.problems import gramian
from tests.solvers.problems import scaled


def project(rows, weights, active=None, mode=FASTEST[0]):
    if active is None:
        active = np.ones(len(rows), bool)
    arguments = gramian(rows), weights.astype(rows.dtype), active
    return compiled(dual_cone, mode)(*arguments).astype("float64")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "rows, expected",
    [
        (J2, [0.6111111, 0.5]),
        (J3, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_pinned(rows, expected, mode):
    mean = np.full((1, len(rows)), 1 / len(rows))
    weights = project(rows.astype("float32"), mean, mode=mode)
    np.testing.assert_allclose(weights[0], expected, rtol=1e-6)


def examples(count, dtype, families, spreads=(0, 3)):
    for seed, family in enumerate(families):
        for spread in spreads:
            rng = np.random.default_rng([seed, count])
            rows = scaled(rng, family(rng, count), spread).astype(dtype)
            yield rows, np.concatenate([np.eye(count), np.ones((1, count))])


def bounds(rows, start, weights, units):
    """Rounding that the docstring grants each inner product."""
    norms = np.linalg.norm(rows, axis=1)
    epsilon = np.finfo(rows.dtype).eps
    size = (np.abs(weights) + np.abs(start)) @ norms
    return units * len(rows) * epsilon * size[:, None] * norms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [2, 5, 8])
def test_optimality_conditions(count, dtype):
    bent = 0
    with double_precision():
        for rows, start in examples(count, dtype, FAMILIES):
            weights = project(rows, start)
            products = weights @ rows.astype("float64") @ rows.T
            norms = np.linalg.norm(rows, axis=1)
            bound = bounds(rows, start, weights, 32)
            # What was added, without the rounding of adding it to the start.
            added = weights - start
            rounding = 4 * np.finfo(dtype).eps * np.abs(weights)
            assert np.all(added >= -rounding)
            assert np.all(products >= -bound)
            largest = np.max(np.abs(weights) * norms, axis=1, keepdims=True)
            added_something = added * norms > 1e-3 * largest
            assert np.all(products[added_something] <= bound[added_something])
            bent += np.sum(added_something)
    assert bent > 20


@pytest.mark.parametrize("count", [2, 5])
def test_against_another_algorithm(count):
    """`min ||J' (u + v)||` over `v >= 0`, on the rows: half the digits lost
    by the Gramian are not lost there."""
    with double_precision():
        for rows, start in examples(count, "float64", INDEPENDENT, (0, 1)):
            weights = project(rows, start)
            norms = np.linalg.norm(rows, axis=1)
            for u, z in zip(start, weights, strict=True):
                added, _ = nnls((rows / norms[:, None]).T, -(u @ rows))
                expected = u @ rows + (added / norms) @ rows
                np.testing.assert_allclose(
                    z @ rows, expected, atol=1e-9 * (np.abs(u) @ norms)
                )


def test_inactive_rows_take_no_part():
    rows = np.concatenate([J3, 10 * np.ones((1, 4))]).astype("float32")
    active = np.array([True, True, True, False])
    weights = project(rows, np.eye(4), active)
    np.testing.assert_allclose(
        weights[:3, :3], project(rows[:3], np.eye(3)), rtol=1e-6
    )
    assert np.all(weights[3] == 0)
    assert np.all(weights[:, 3] == 0)
