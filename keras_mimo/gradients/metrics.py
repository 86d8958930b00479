from keras import ops


def add_rows(variable, rows):
    """Adds to the rows of a variable.

    Args:
        variable: Variable of shape `(R, ...)`.
        rows: List of R tensors, arrays or numbers that broadcast to a row.
    """
    shape = variable.shape[1:]
    rows = [
        ops.broadcast_to(ops.cast(row, variable.dtype), shape) for row in rows
    ]
    variable.assign_add(ops.stack(rows))


def update_means(means, values, counts):
    """Updates several metrics.

    Args:
        means: List of `keras.metrics.Mean`.
        values: For each, a scalar tensor.
        counts: For each, the weight of the value, or `None` for 1.
    """
    for mean, value, count in zip(means, values, counts, strict=True):
        mean.update_state(value, sample_weight=count)
