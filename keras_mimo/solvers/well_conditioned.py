import numpy as np

from keras_mimo.solvers import ops

# The sine of the smallest angle between a vector and those before it.
SMALLEST = 0.01


def well_conditioned(matrix):
    """Whether NumPy can tell that vectors are far from dependent.

    Then a system of their cosines, or of some of them, has one solution, which
    is not that of rounding. Elsewhere than in NumPy a program can't take
    another way for it.

    Args:
        matrix: Tensor of shape `(K, K)`: the cosines.
    """
    if not ops.is_numpy():
        return False
    try:
        return np.linalg.cholesky(matrix).diagonal().min() > SMALLEST
    except np.linalg.LinAlgError:
        return False
