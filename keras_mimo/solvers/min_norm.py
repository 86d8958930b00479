from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.nonnegative_qp import nonnegative_qp


def min_norm(gramian, active):
    """Weights of the shortest vector in the convex hull of K vectors.

    `argmin w' G w` over `w >= 0` with `sum(w) == 1` and `w == 0` where not
    active: exact for every K, in closed form for two.

    Args:
        gramian: Tensor of shape `(K, K)`, `float32` or `float64`: the inner
            products of the vectors.
        active: Boolean tensor of shape `(K,)`: the vectors that take part.

    Returns:
        Tensor of shape `(K,)`, with no gradient. All zeros if none is active.
    """
    gramian = ops.stop_gradient(gramian)
    if gramian.shape[-1] == 2:
        return _closed_form(gramian, active)
    return _active_set(gramian, active)


def _closed_form(gramian, active):
    # Symmetric in the two, so that a small weight has a small error.
    parts = ops.relu(ops.flip(ops.diagonal(gramian)) - gramian[0, 1])
    total = ops.sum(parts)
    weights = ops.where(total > 0, parts / ops.where(total > 0, total, 1), 0.5)
    return ops.where(ops.all(active), weights, ops.cast(active, weights.dtype))


def _active_set(gramian, active):
    """Solves in the cosines, where vectors of any length count the same.

    With `C` the cosines, `s` the norms and `c = min(s) / s`, the minimiser of
    `z' C z / 2 - c' z` over `z >= 0` is a multiple of `s * w`: the two problems
    have the same optimality conditions. Where 0 is in the convex hull, that
    minimum is at infinity, and the direction to it is the answer.
    """
    ratios, norms, positive = cosines(gramian, active)
    largest = ops.max(norms)
    smallest = ops.min(ops.where(positive, norms, largest))
    inverse = ops.where(positive, smallest / norms, 0.0)

    scaled = nonnegative_qp(ratios, inverse[None, :])[0]
    weights = _normalize(scaled * inverse)
    # A vector of length 0 is the shortest.
    zero = ops.cast(active & ~positive, weights.dtype)
    return ops.where(ops.any(zero > 0), _normalize(zero), weights)


def _normalize(weights):
    total = ops.sum(weights)
    return weights / ops.where(total > 0, total, 1.0)
