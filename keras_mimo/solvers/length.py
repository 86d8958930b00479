from keras_mimo.solvers import ops
from keras_mimo.solvers.rounding import rounding


def combined_length(weights, gramian):
    """Length of a weighted sum of vectors, 0 where that can't be told.

    Large terms that cancel leave their rounding. With `eps` of the dtype, the
    square `w' G w` is known to `4 * K * eps * (sum_k |w_k| ||g_k||)**2`, and
    what is below that may as well be 0: its direction is arbitrary.

    Args:
        weights: Tensor of shape `(K,)`.
        gramian: Tensor of shape `(K, K)`, the inner products of the vectors.

    Returns:
        Scalar tensor.
    """
    # Squares of squares would leave float32 where the gradients do not.
    trace = ops.trace(gramian)
    scaled = gramian / ops.where(trace > 0, trace, 1.0)
    largest = ops.max(ops.absolute(weights))
    unit = weights / ops.where(largest > 0, largest, 1.0)
    square = ops.sum(unit[:, None] * scaled * unit[None, :])
    sizes = ops.absolute(unit) * ops.sqrt(ops.relu(ops.diagonal(scaled)))
    visible = square > rounding(gramian) * ops.sum(sizes) ** 2
    length = ops.sqrt(ops.where(visible, square, 0.0))
    return length * largest * ops.sqrt(ops.relu(trace))
