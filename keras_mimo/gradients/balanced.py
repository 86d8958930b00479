import itertools

from keras import ops

from keras_mimo.gradients.flat import FlatRows
from keras_mimo.gradients.sparse import SparseGradient
from keras_mimo.gradients.sparse import dense


def block_rows(pullback, blocks, keep=FlatRows):
    """The gradients of K objectives, per block of variables.

    Args:
        pullback: An object with `num_objectives` and `row(k, indices)`, the
            gradient of output `k` with respect to the variables at `indices`,
            `None` where there is none; and `rows(indices)`, all of them by one
            vectorised pass, which is taken if `at_once` is true.
        blocks: List of lists of indices.
        keep: Function of an iterable of K lists of gradients, in which they are
            computed, that keeps them. Defaults to `FlatRows`.

    Returns:
        List of what `keep` returns, one per block.
    """
    indices = [index for block in blocks for index in block]
    count = pullback.num_objectives
    if pullback.at_once:
        rows = pullback.rows(indices)
    else:
        rows = (pullback.row(k, indices) for k in range(count))
    if len(blocks) == 1:
        return [keep(rows)]
    rows = list(rows)
    ends = list(itertools.accumulate(len(block) for block in blocks))
    return [
        keep([row[end - len(block) : end] for row in rows])
        for block, end in zip(blocks, ends, strict=True)
    ]


def weighted_blocks(pullback, blocks, weights):
    """Gradients of weighted sums of the objectives, without all K of them.

    Args:
        pullback: As in `block_rows()`, with `weighted(weights, indices)`, the
            gradient of the weighted sum of the first outputs, and `keep`.
        blocks: List of lists of indices.
        weights: For each block, a tensor of shape `(K,)`.

    Returns:
        For each block, a list of gradients.
    """
    if len(blocks) > pullback.num_objectives:
        rows = block_rows(pullback, blocks, pullback.keep)
        return [
            block.weighted_sum(w)
            for block, w in zip(rows, weights, strict=True)
        ]
    return [
        pullback.weighted(w, block)
        for block, w in zip(blocks, weights, strict=True)
    ]


def update_gradients(pullback, blocks, gradients, factor=None):
    """One gradient per variable.

    Args:
        pullback: As in `block_rows()`; output `num_objectives` stands for the
            losses that are not objectives, and is added.
        blocks: List of lists of indices.
        gradients: For each block, a list of gradients.
        factor: Scalar that these are multiplied by. Defaults to `None`: 1.

    Returns:
        Dict from indices to gradients, `None` where no loss reaches a variable.
    """
    combined = {
        index: _times(gradient, factor)
        for block, values in zip(blocks, gradients, strict=True)
        for index, gradient in zip(block, values, strict=True)
    }
    indices = sorted(combined)
    additional = pullback.row(pullback.num_objectives, indices)
    return {
        index: _add(combined[index], value)
        for index, value in zip(indices, additional, strict=True)
    }


def representation_rows(pullback):
    """The gradients of K objectives at the tapped tensors, as `FlatRows`."""
    count = pullback.num_objectives
    return FlatRows([pullback.at_taps(k) for k in range(count)])


def _times(gradient, factor):
    if gradient is None or factor is None:
        return gradient
    return gradient * ops.cast(factor, gradient.dtype)


def _add(a, b):
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, SparseGradient) and isinstance(b, SparseGradient):
        return a + b
    return dense(a) + dense(b)
