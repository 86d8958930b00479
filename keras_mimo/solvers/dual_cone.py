from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.nonnegative_qp import nonnegative_qp


def dual_cone(gramian, weights, active):
    """Projects sums of K vectors onto the cone that opposes none of them.

    For each row `u` of `weights`, the point of `{d : g_k . d >= 0 for all k}`
    that is closest to `sum_k u_k g_k` is `sum_k z_k g_k`, where `z` minimises
    `z' G z` over `z >= u`. Exact up to rounding: with `eps` of the dtype,
    `g_k . d` falls short of 0 by about `4 * K * eps * ||g_k|| * sum_j |z_j|
    ||g_j||` at most, and by some tens of that for dependent vectors.

    Args:
        gramian: Tensor of shape `(K, K)`, `float32` or `float64`: the inner
            products of the vectors.
        weights: Tensor of shape `(B, K)`: `B` sums to project.
        active: Boolean tensor of shape `(K,)`: the vectors that take part.

    Returns:
        Tensor of shape `(B, K)`, with no gradient. 0 where not active.
    """
    matrix, lengths, positive = cosines(gramian, active)
    start = ops.where(positive, weights * lengths, 0.0)
    # In v = z - u >= 0. No matmul: accelerators round float32 in theirs.
    slopes = ops.sum(matrix * start[:, None, :], axis=-1)
    return (start + nonnegative_qp(matrix, -slopes)) / lengths
