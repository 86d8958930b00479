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


def weighted_blocks(pullback, blocks, weights, parts):
    """Gradients of weighted sums of the objectives, without all K of them.

    Args:
        pullback: As in `block_rows()`, with `weighted(weights, indices)`, the
            gradient of the weighted sum of the first outputs, and `keep` and
            `after()`, as in `gramians_by_part()`.
        blocks: List of lists of indices.
        weights: For each block, a tensor of shape `(K,)`.
        parts: List of lists of indices: all K gradients are in memory of one
            of them at a time, where it takes all K.

    Returns:
        For each block, a list of gradients.
    """
    if len(blocks) <= pullback.num_objectives:
        return [
            pullback.weighted(w, block)
            for block, w in zip(blocks, weights, strict=True)
        ]
    found = {}
    pullback = pullback.after(weights)
    for pieces in _pieces(blocks, parts):
        rows = block_rows(pullback, list(pieces.values()), pullback.keep)
        for (b, piece), kept in zip(pieces.items(), rows, strict=True):
            sums = kept.weighted_sum(weights[b])
            found.update(zip(piece, sums, strict=True))
        # Before the rows of the next part come.
        del rows, kept
        last = [found[index] for piece in pieces.values() for index in piece]
        pullback = pullback.after(
            [g.values if isinstance(g, SparseGradient) else g for g in last]
        )
    return [[found[index] for index in block] for block in blocks]


def gramians_by_part(pullback, blocks, parts, product):
    """The Gramians of K gradients of which one part is there at a time.

    Args:
        pullback: As in `block_rows()`, with `keep`, and `after(tensors)`, the
            same gradients, computed no sooner than these.
        blocks: List of lists of indices.
        parts: List of lists of indices, each index of a block in one of them.
        product: As in `FlatRows.gramian()`.

    Returns:
        For each block a tensor of shape `(K, K)`, and a list of K booleans: the
        objectives that reach it.
    """
    gramians = [0.0] * len(blocks)
    reached = [[False] * pullback.num_objectives for _ in blocks]
    for pieces in _pieces(blocks, parts):
        rows = block_rows(pullback, list(pieces.values()), pullback.keep)
        for b, kept in zip(pieces, rows, strict=True):
            gramians[b] = gramians[b] + kept.gramian(product)
            both = zip(reached[b], kept.reached, strict=True)
            reached[b] = [before or now for before, now in both]
        # Before the rows of the next part come.
        del rows, kept
        pullback = pullback.after([gramians[b] for b in pieces])
    return gramians, reached


def _pieces(blocks, parts):
    """For each part, dict from numbers of blocks to what it has of them."""
    for part in parts:
        taken = set(part)
        pieces = {
            b: [index for index in block if index in taken]
            for b, block in enumerate(blocks)
        }
        yield {b: piece for b, piece in pieces.items() if piece}


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
    if pullback.at_once:
        return FlatRows(pullback.rows_at_taps())
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
