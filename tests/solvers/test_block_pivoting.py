import numpy as np
import pytest

from keras_mimo.solvers import ops
from keras_mimo.solvers.block_pivoting import block_pivoting
from keras_mimo.solvers.eigen import pseudo_solve
from keras_mimo.solvers.inverse import inverse_in_numpy
from tests.solvers.test_nonnegative_qp import assert_optimal
from tests.solvers.test_nonnegative_qp import random_problem


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_optimality_conditions(count, dtype):
    for seed in range(20):
        matrix, vector = random_problem(seed, count, 2 * count, 6, dtype)
        values = block_pivoting(matrix, vector)
        assert values.dtype == dtype
        assert_optimal(matrix, vector, values)
        guess = vector < 0
        again = block_pivoting(matrix, vector, guess)
        np.testing.assert_allclose(again, values, rtol=1e-5, atol=1e-6)


def test_only_vectors_far_from_dependent_have_an_inverse():
    matrix, vector = random_problem(0, 4, 8, 1)
    close = np.array([[1, 1 - 1e-5], [1 - 1e-5, 1]], "float32")

    def inverses():
        return inverse_in_numpy(matrix), [
            inverse_in_numpy(m)
            for m in (close, np.ones((2, 2)), np.full((2, 2), np.nan))
        ]

    found, others = ops.in_numpy(lambda: inverses(), [])
    np.testing.assert_allclose(found @ matrix, np.eye(4), atol=1e-6)
    assert others == [None, None, None]
    # Tensors go another way, to the same numbers.
    assert inverse_in_numpy(matrix) is None
    solved = ops.in_numpy(pseudo_solve, [matrix, vector[0]])
    np.testing.assert_allclose(matrix @ solved, vector[0], atol=1e-5)
