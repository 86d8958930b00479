import keras
import numpy as np
from keras import ops


def eigen(matrix):
    """Eigenvalues and eigenvectors of the part that is not rounding.

    Args:
        matrix: Tensor of shape `(K, K)`, `float32` or `float64`, symmetric and
            positive semi-definite up to rounding.

    Returns:
        Tuple: eigenvalues in ascending order, of shape `(K,)`; eigenvectors in
        the columns of a `(K, K)` tensor; and which eigenvalues are larger than
        `4 * K * eps` of the largest, so that there is something to invert.
    """
    values, vectors = ops.eigh(matrix)
    dtype = keras.backend.standardize_dtype(matrix.dtype)
    epsilon = 4 * matrix.shape[-1] * float(np.finfo(dtype).eps)
    # Not >=: of a matrix of zeros nothing is left.
    return values, vectors, values > epsilon * ops.max(abs(values))


def pseudo_solve(matrix, vector):
    """The shortest of the `x` that minimise `||A x - b||`."""
    values, vectors, kept = eigen(matrix)
    inverse = ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)
    parts = inverse * ops.sum(vectors * vector[:, None], axis=0)
    return ops.sum(vectors * parts, axis=-1)
