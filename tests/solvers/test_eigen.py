import numpy as np
import pytest

from keras_mimo.solvers.eigen import eigen
from keras_mimo.solvers.eigen import pseudo_solve
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.solvers.problems import gramian
from tests.solvers.problems import opposed


def kept(matrix):
    return eigen(matrix)[2]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rank", [0, 2, 5])
def test_pseudo_solve(rank, mode):
    rng = np.random.default_rng(rank)
    rows = rng.normal(size=(5, rank))
    matrix, vector = rows @ rows.T, rng.normal(size=5)
    expected = np.linalg.pinv(matrix, rcond=1e-9, hermitian=True) @ vector
    solution = compiled(pseudo_solve, mode)(
        matrix.astype("float32"), vector.astype("float32")
    )
    np.testing.assert_allclose(solution, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-20, 1, 1e20])
def test_what_is_rounding_is_relative(scale):
    matrix = (np.diag([1, 1e-5, 1e-7, 0]) * scale).astype("float32")
    expected = [False, False, True, True]
    np.testing.assert_array_equal(compiled(kept)(matrix), expected)
    np.testing.assert_array_equal(compiled(kept)(0 * matrix), [False] * 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_the_matrix_can_not_reach_leaks_into_nothing(dtype):
    """Ones are orthogonal to the range of the cosines of opposed pairs."""
    with double_precision():
        for seed in range(4):
            rows = opposed(np.random.default_rng(seed), 6)
            rows = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(dtype)
            solution = compiled(pseudo_solve)(gramian(rows), np.ones(6, dtype))
            np.testing.assert_array_equal(solution, 0)
