import numpy as np
import pytest

from keras_mimo.solvers.nonnegative_qp import nonnegative_qp
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision


def random_problem(seed, count, rank, batch, dtype="float32"):
    """A correlation matrix of the given rank, and vectors in its range."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, rank)) + rng.uniform(0, 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = rows @ rows.T
    vector = rng.normal(size=(batch, count)) @ matrix
    return matrix.astype(dtype), vector.astype(dtype)


def assert_optimal(matrix, vector, values, singular=False):
    """Optimality conditions, up to the rounding that the docstring states."""
    epsilon = np.finfo(matrix.dtype).eps
    matrix, vector, values = (
        np.asarray(x, "float64") for x in (matrix, vector, values)
    )
    residual = vector - values @ matrix
    scale = np.abs(vector) + np.abs(values) @ np.abs(matrix)
    bound = (64 if singular else 2) * len(matrix) * epsilon * scale
    assert np.all(values >= 0)
    assert np.all(residual <= bound)
    assert np.all(np.abs(residual) <= np.where(values > 0, bound, np.inf))


@pytest.mark.parametrize("mode", MODES)
def test_pinned(mode):
    matrix = np.array([[2.0, 1], [1, 2]], "float32")
    vector = np.array([[3, 3], [4, 1], [-1, 4], [-1, -2]], "float32")
    values = compiled(nonnegative_qp, mode)(matrix, vector)
    expected = [[1, 1], [2, 0], [0, 2], [0, 0]]
    # (4, 1) has its free minimum at (7/3, -2/3), (-1, 4) at (-2, 3).
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_optimality_conditions(count, singular):
    rank = max(1, count // 2) if singular else 2 * count
    solve = compiled(nonnegative_qp)
    supports = set()
    for seed in range(20):
        matrix, vector = random_problem(seed, count, rank, batch=4)
        values = solve(matrix, vector)
        assert_optimal(matrix, vector, values, singular)
        supports |= {tuple(row > 0) for row in values}
    # Not one easy case over and over. With rank 1, one index serves for all.
    most = 1 + count if rank == 1 else 2**count
    assert len(supports) >= min(most, 6)


@pytest.mark.parametrize("mode", MODES)
def test_equal_columns_are_no_harder_than_others(mode):
    """As they are: XLA's solution of a singular system is off by percents."""
    matrix, vector = random_problem(0, 4, 12, batch=4)
    doubled = np.tile(matrix, (2, 2))
    values = compiled(nonnegative_qp, mode)(doubled, np.tile(vector, (1, 2)))
    assert_optimal(doubled, np.tile(vector, (1, 2)), values, False)


@pytest.mark.parametrize("singular", [False, True])
def test_float64(singular):
    rank = 3 if singular else 12
    with double_precision():
        for seed in range(20):
            problem = random_problem(seed, 6, rank, batch=4, dtype="float64")
            values = compiled(nonnegative_qp)(*problem)
            assert values.dtype == "float64"
            assert_optimal(*problem, values, singular)


def test_problems_of_a_batch_do_not_touch_each_other():
    solve = compiled(nonnegative_qp)
    matrix, vector = random_problem(0, 6, 12, batch=4)
    # The first is done at once, while the others go on.
    vector[0] = -np.abs(vector[0])
    together = solve(matrix, vector)
    for one, values in zip(vector, together, strict=True):
        alone = solve(matrix, one[None])[0]
        np.testing.assert_allclose(values, alone, rtol=1e-5, atol=1e-6)
    assert np.all(together[0] == 0)


def test_bounds_that_do_not_bind_leave_the_linear_solution():
    matrix, _ = random_problem(1, 6, 20, batch=1)
    expected = np.linspace(1, 2, 6)
    vector = (expected @ matrix.astype("float64")).astype("float32")
    values = compiled(nonnegative_qp)(matrix, vector[None])[0]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_minimum_at_infinity_gives_its_direction():
    matrix = np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 1]], "float32")
    vector = np.ones((1, 3), "float32")
    values = compiled(nonnegative_qp)(matrix, vector)[0]
    assert np.all(np.isfinite(values))
    assert np.min(values[:2]) > 1e4
    np.testing.assert_allclose(values / values[0], [1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(values[2], 1, rtol=1e-5)


def test_nan_ends():
    matrix, vector = random_problem(0, 6, 12, batch=4)
    matrix[1, 2] = np.nan
    compiled(nonnegative_qp)(matrix, vector)
    compiled(nonnegative_qp)(np.full_like(matrix, np.nan), vector)


@pytest.mark.parametrize("mode", MODES)
def test_exactly_singular_system(mode):
    """TensorFlow and PyTorch raise on one; this is one but for the guard."""
    jitter = 4 * 2 * np.finfo("float32").eps
    matrix = np.diag([-jitter, 1]).astype("float32")
    vector = np.ones((1, 2), "float32")
    values = compiled(nonnegative_qp, mode)(matrix, vector)
    assert np.all(np.isfinite(values))
    np.testing.assert_allclose(values[0, 1], 1, rtol=1e-5)


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 1e-1])
def test_matrix_with_negative_eigenvalues(noise):
    """Gramians are sums of many rounded products."""
    solve = compiled(nonnegative_qp)
    rng = np.random.default_rng(0)
    negative = 0
    for seed in range(10):
        matrix, vector = random_problem(seed, 6, 2, batch=4)
        error = noise * rng.normal(size=matrix.shape)
        matrix = (matrix + error + error.T).astype("float32")
        negative += np.linalg.eigvalsh(matrix)[0] < 0
        values = solve(matrix, vector)
        assert np.all(np.isfinite(values) & (values >= 0))
    assert negative == 10
