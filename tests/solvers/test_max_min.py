import functools

import numpy as np
import pytest

from keras_mimo.solvers.max_min import max_min
from tests.backends import FASTEST
from tests.backends import compiled
from tests.backends import double_precision
from tests.solvers.problems import FAMILIES
from tests.solvers.problems import INDEPENDENT
from tests.solvers.problems import gramian
from tests.solvers.problems import scaled


@functools.cache
def with_radius(radius):
    def solve(gramian, weights, active):
        return max_min(gramian, weights, radius, active)

    return solve


def solve(rows, radius, active=None, mode=FASTEST[0]):
    if active is None:
        active = np.ones(len(rows), bool)
    center = active / np.sum(active)
    weights = compiled(with_radius(radius), mode)(
        gramian(rows), center.astype(rows.dtype), active
    )
    return weights.astype("float64"), center


def gap(rows, weights, center, radius):
    """Of the primal and dual values, and what the point leaves of the ball.

    A point of the ball is optimal if and only if the gap is 0, whatever
    algorithm it comes from: `min_k g_k . d <= g_w . c + r * ||g_w||` for every
    `d` in the ball and every `w` on the simplex. Both relative to the terms.
    """
    rows = rows.astype("float64")
    mean = center @ rows
    limit = radius * np.linalg.norm(mean)
    step = (weights - center) @ rows
    multipliers = weights - center
    assert np.all(multipliers >= -1e-6 * np.abs(weights))
    worst = np.min(rows @ (mean + step))
    values = [row @ mean + limit * np.linalg.norm(row) for row in rows]
    if np.sum(multipliers) > 0:
        point = multipliers @ rows / np.sum(multipliers)
        values.append(point @ mean + limit * np.linalg.norm(point))
    norms = np.linalg.norm(rows, axis=1)
    size = np.max(norms) * (np.linalg.norm(mean) + limit)
    outside = np.linalg.norm(step) - limit
    return (np.min(values) - worst) / size, outside / np.linalg.norm(mean)


@pytest.mark.parametrize("radius", [0.4, 1.0])
def test_no_duality_gap_in_float64(radius):
    moved = 0
    with double_precision():
        for seed in range(6):
            for family in INDEPENDENT:
                rng = np.random.default_rng(seed)
                rows = scaled(rng, family(rng, 5), seed % 3)
                weights, center = solve(rows, radius)
                distance, outside = gap(rows, weights, center, radius)
                assert distance <= 1e-9
                # Opposing vectors leave 1e-3 of the terms to the mean.
                assert abs(outside) <= 1e-7
                moved += np.max(weights - center) > 0.1
    assert moved >= 6


@pytest.mark.parametrize("radius", [0.4, 1.0])
@pytest.mark.parametrize(
    "dtype, bound", [("float64", 1e-12), ("float32", 1e-4)]
)
def test_worst_cases(dtype, bound, radius):
    """Rounding, relative to the terms, also where 0 is in the hull."""
    with double_precision():
        for seed in range(4):
            for family in FAMILIES:
                rng = np.random.default_rng(seed)
                rows = scaled(rng, family(rng, 5), seed % 4).astype(dtype)
                weights, center = solve(rows, radius)
                exact = rows.astype("float64")
                norms = np.linalg.norm(exact, axis=1)
                step = (weights - center) @ exact
                mean = np.linalg.norm(center @ exact)
                size = np.max(norms) / 5
                # No run along the null space, where nothing bounds it.
                assert weights @ norms <= 1e3 * np.mean(norms)
                assert np.linalg.norm(step) <= radius * mean + bound * size
                if radius >= 1:
                    products = exact @ (weights @ exact) / norms
                    assert np.min(products) >= -bound * (weights @ norms)


def test_radius_0_is_the_center():
    rows = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    weights, center = solve(rows, 0.0)
    np.testing.assert_allclose(weights, center, rtol=1e-6)


def test_row_of_length_0_caps_the_level():
    """`min_k g_k . d` is 0 at most: d is the closest point to reach that."""
    rows = np.array([[3.0, 0], [-1, 1], [0, 0]], "float32")
    weights, _ = solve(rows, 1.0)
    # The mean (2/3, 1/3) projected onto the plane orthogonal to (-1, 1).
    np.testing.assert_allclose(weights @ rows, [0.5, 0.5], rtol=1e-5)


def test_inactive_rows_take_no_part():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(5, 8)).astype("float32")
    active = np.array([True, False, True, True, False])
    weights, _ = solve(rows, 0.4, active)
    expected, _ = solve(rows[active], 0.4)
    np.testing.assert_allclose(weights[active], expected, rtol=1e-5)
    assert np.all(weights[~active] == 0)
