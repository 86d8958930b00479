from keras import ops

from keras_mimo.gradients.flat import FlatRows


def balanced_gradients(pullback, gramian, weigh, balanced, others):
    """Combines the gradients of K objectives into one update.

    Args:
        pullback: An object with `num_objectives`; `row(k, indices)`, the
            gradient of output `k` with respect to the variables at `indices`
            (`None` where there is none; output `num_objectives` stands for the
            losses that are not objectives); and `weighted(weights, indices)`,
            the gradient of the weighted sum of the objectives.
        gramian: Function of a matrix that returns its Gramian in the full
            precision of the matrix.
        weigh: Function of the Gramian that returns the weights `(K,)`.
        balanced: List of int, the variables that the Gramian is taken over.
        others: List of int, all other variables.

    Returns:
        List of gradients in the order of the variables, `None` where no loss
        reaches a variable, as in plain Keras.
    """
    count = pullback.num_objectives
    rows = FlatRows([pullback.row(k, balanced) for k in range(count)])
    weights = ops.stop_gradient(weigh(rows.gramian(gramian)))
    combined = dict(zip(balanced, rows.weighted_sum(weights), strict=True))
    if others:
        values = pullback.weighted(weights, others)
        combined.update(zip(others, values, strict=True))
    indices = sorted(combined)
    additional = pullback.row(count, indices)
    return [
        _add(combined[index], value)
        for index, value in zip(indices, additional, strict=True)
    ]


def _add(a, b):
    if a is None or b is None:
        return b if a is None else a
    return a + b
