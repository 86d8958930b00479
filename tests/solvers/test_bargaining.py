import functools

import numpy as np
import pytest

from keras_mimo.solvers.bargaining import bargaining
from tests.backends import FASTEST
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.solvers.problems import FAMILIES
from tests.solvers.problems import INDEPENDENT
from tests.solvers.problems import gramian
from tests.solvers.problems import scaled


@functools.cache
def with_exponent(exponent):
    def solve(gramian, active):
        return bargaining(gramian, active, exponent)

    return solve


def solve(rows, exponent=1.0, active=None, mode=FASTEST[0]):
    if active is None:
        active = np.ones(len(rows), bool)
    function = compiled(with_exponent(exponent), mode)
    return function(gramian(rows), active).astype("float64")


def residual(rows, weights, exponent):
    """`G a - a ** -exponent`, in units of the rounding of its terms."""
    exact = rows.astype("float64")
    norms = np.linalg.norm(exact, axis=1)
    target = weights**-exponent
    size = target + norms * (weights @ norms)
    unit = len(rows) * np.finfo(rows.dtype).eps * size
    return np.max(np.abs(exact @ (weights @ exact) - target) / unit)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_one_vector(exponent, mode):
    """`s**2 * a = a ** -exponent`, beside one that does not take part."""
    rows = np.array([[3.0, 4.0], [1, 1]], "float32")
    active = np.array([True, False])
    weights = solve(rows, exponent, active, mode)
    expected = 25 ** (-1 / (1 + exponent))
    np.testing.assert_allclose(weights, [expected, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_residual_is_rounding(exponent, dtype):
    with double_precision():
        for seed in range(3):
            for family in FAMILIES:
                for spread in (0, 3):
                    rng = np.random.default_rng(seed)
                    rows = scaled(rng, family(rng, 6), spread).astype(dtype)
                    weights = solve(rows, exponent)
                    assert np.all(weights > 0)
                    assert residual(rows, weights, exponent) <= 8


@pytest.mark.parametrize("count", [2, 6])
def test_relative_residual_in_float64(count):
    """Where vectors oppose each other, and a solution exists all the same."""
    with double_precision():
        for seed in range(5):
            for family in INDEPENDENT:
                rng = np.random.default_rng(seed)
                rows = scaled(rng, family(rng, count), 3)
                weights = solve(rows)
                improvements = rows @ (weights @ rows)
                # Of products that opposing vectors leave 1e-6 of, and less.
                np.testing.assert_allclose(improvements, 1 / weights, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_solves_to_the_precision_of_float32(exponent):
    """The update is off by what rounding the Gramian once more may move it.

    At most, which is half an `eps` of each entry, all in the worst direction: a
    little for vectors at a distance, a tenth for those that oppose each other.
    Rounding inside the solver is up to twice that, whatever the order of the
    vectors (60 seeds, three backends).
    """
    count = 6
    epsilon = float(np.finfo("float32").eps)
    for seed in range(4):
        for family in INDEPENDENT:
            rng = np.random.default_rng(seed)
            rows = family(rng, count).astype("float32")
            exact = rows.astype("float64")
            rounded = gramian(rows)

            def update(matrix, exact=exact):
                function = compiled(with_exponent(exponent))
                return function(matrix, np.ones(count, bool)) @ exact

            with double_precision():
                expected = update(rounded.astype("float64"))
                moved = 0
                for i, j in zip(*np.triu_indices(count), strict=True):
                    other = rounded.astype("float64")
                    other[i, j] = other[j, i] = other[i, j] * (1 + epsilon / 2)
                    moved += np.linalg.norm(update(other) - expected)
            bound = 4 * (moved + epsilon * np.linalg.norm(expected))
            found = update(rounded)
            order = rng.permutation(count)
            other = update(rounded[order][:, order], exact[order])
            assert np.linalg.norm(found - expected) <= bound
            assert np.linalg.norm(found - other) <= bound


def test_scale_of_a_vector_does_not_matter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 8)).astype("float32")
    factors = np.array([1e-3, 1e-2, 1, 10, 1e3, 1e-1], "float32")
    weights = solve(rows * factors[:, None]) * factors
    np.testing.assert_allclose(weights, solve(rows), rtol=1e-4)


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 1e-1])
def test_matrix_with_negative_eigenvalues(noise):
    """Gramians are sums of many rounded products."""
    negative = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(6, 2))
        error = noise * rng.normal(size=(6, 6))
        matrix = (rows @ rows.T + error + error.T).astype("float32")
        matrix[np.diag_indices(6)] = np.sum(rows**2, axis=1)
        negative += np.linalg.eigvalsh(matrix)[0] < 0
        weights = compiled(with_exponent(1.0))(matrix, np.ones(6, bool))
        assert np.all(np.isfinite(weights) & (weights > 0))
    assert negative >= 5


def test_rows_of_length_0_and_inactive_ones_get_nothing():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 8)).astype("float32")
    rows[1] = 0
    active = np.array([True, True, True, False, True, True])
    kept = [0, 2, 4, 5]
    weights = solve(rows, active=active)
    np.testing.assert_allclose(weights[kept], solve(rows[kept]), rtol=1e-5)
    assert weights[1] == weights[3] == 0
    assert np.all(solve(np.zeros((6, 8), "float32")) == 0)
