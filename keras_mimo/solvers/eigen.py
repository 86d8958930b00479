from keras_mimo.solvers import ops
from keras_mimo.solvers.inverse import inverse_in_numpy
from keras_mimo.solvers.rounding import rounding


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
    # Not >=: of a matrix of zeros nothing is left.
    kept = values > rounding(matrix) * ops.max(abs(values))
    return values, vectors, kept


def pseudo_solve(matrix, vector):
    """The shortest of the `x` that minimise `||A x - b||`.

    What `A x` can't reach of `b` leaks into its other parts, as far as rounding
    turns the eigenvectors: parts that are no larger than that are 0.
    """
    inverse = inverse_in_numpy(matrix)
    if inverse is not None:
        return (inverse @ vector).astype(vector.dtype)
    values, vectors, kept = eigen(matrix)
    parts = ops.sum(vectors * vector[:, None], axis=0)
    unreached = ops.sqrt(ops.sum(ops.where(kept, 0.0, parts) ** 2))
    leak = rounding(matrix) * ops.max(abs(values)) * unreached
    solved = parts / ops.where(kept, values, 1.0)
    kept = kept & (abs(parts * values) > leak)
    return ops.sum(vectors * ops.where(kept, solved, 0.0), axis=-1)
