from keras import ops


def pairwise(scores):
    """`s_m / s_j` for every pair, shape `(M, M)`.

    A score of 0, which a softmax rounds to where it is sure of being wrong,
    counts as the smallest that it tells from 0.
    """
    scores = ops.maximum(scores, 1e-7)
    return scores[:, None] / scores[None, :]


def mean_over_others(pairs):
    """The means of the rows of an `(M, M)` tensor without the diagonal."""
    count = pairs.shape[0]
    others = 1.0 - ops.eye(count, dtype=pairs.dtype)
    return ops.sum(pairs * others, axis=1) / (count - 1)
