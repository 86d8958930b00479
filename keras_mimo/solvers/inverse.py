import numpy as np

from keras_mimo.solvers import ops

# Of the square of a vector's distance from the span of the others.
LARGEST = 1e4


def inverse_in_numpy(matrix):
    """The inverse, where NumPy can tell that vectors are far from dependent.

    Then a system of their cosines, or of some of them, has one solution, which
    is not that of rounding. Elsewhere than in NumPy a program can't take
    another way for it.

    Args:
        matrix: Tensor of shape `(K, K)`: the cosines.

    Returns:
        Array of shape `(K, K)`, `float64`, or `None`.
    """
    if not ops.is_numpy():
        return None
    try:
        inverse = np.linalg.inv(matrix.astype("float64"))
    except np.linalg.LinAlgError:
        return None
    squares = inverse.diagonal()
    return inverse if 0 < squares.min() and squares.max() < LARGEST else None
