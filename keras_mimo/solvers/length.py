from keras import ops


def combined_length(weights, gramian):
    """Length of a weighted sum of vectors.

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
    return ops.sqrt(ops.relu(square)) * largest * ops.sqrt(ops.relu(trace))
