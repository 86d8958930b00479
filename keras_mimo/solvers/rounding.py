from keras_mimo.solvers import ops


def rounding(matrix):
    """What rounding may do to a sum of products, relative to their sizes.

    `4 * K * eps`, with `eps` of the dtype: for `w' G w` of a Gramian that was
    itself rounded, and weights that a solver found to the same precision.

    Args:
        matrix: Tensor of shape `(K, K)`, `float32` or `float64`.

    Returns:
        Float.
    """
    return 4 * matrix.shape[-1] * float(ops.finfo(matrix.dtype).eps)
