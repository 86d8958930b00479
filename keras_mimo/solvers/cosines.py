from keras_mimo.solvers import ops


def cosines(gramian, active):
    """Cosines and lengths of vectors, from their inner products.

    In the cosines vectors of any length count the same, so that no scale is
    left that a solver would need a threshold for.

    Args:
        gramian: Tensor of shape `(K, K)`, `float32` or `float64`: the inner
            products of the vectors.
        active: Boolean tensor of shape `(K,)`: the vectors that take part.

    Returns:
        Tuple, with no gradient: the cosines, of shape `(K, K)`, and the
        lengths, of shape `(K,)`, and which vectors take part and are not 0. For
        all others the cosines are 0 and the length is 1.
    """
    gramian = ops.stop_gradient(gramian)
    squares = ops.diagonal(gramian)
    if ops.is_numpy() and active.all() and squares.min() > 0:
        lengths = ops.sqrt(squares)
        return gramian / lengths[None, :] / lengths[:, None], lengths, active
    positive = active & (squares > 0)
    lengths = ops.sqrt(ops.where(positive, squares, 1.0))
    pairs = positive[None, :] & positive[:, None]
    ratios = gramian / lengths[None, :] / lengths[:, None]
    return ops.where(pairs, ratios, 0.0), lengths, positive
