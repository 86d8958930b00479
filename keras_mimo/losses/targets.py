import operator

from keras import ops


def one_hot_targets(y_true, y_pred, num_classes, dtype):
    """Integer or one-hot labels as one-hot labels in the shape of `y_pred`.

    Args:
        y_true: Integer labels of shape `(...)` or `(..., 1)`, or one-hot labels
            of shape `(..., num_classes)`. An integer out of range becomes a
            row of zeros.
        y_pred: Tensor of shape `(..., num_classes)`.
        num_classes: Integer.
        dtype: String, the dtype of the result.

    Returns:
        Tensor of shape `(..., num_classes)`.

    Raises:
        ValueError: If the shapes do not fit.
    """
    labels, predictions = tuple(y_true.shape), tuple(y_pred.shape)
    if predictions[-1] != num_classes:
        raise ValueError(
            f"`y_pred` must have one entry for each of the {num_classes} "
            f"classes in its last axis. Received: y_pred.shape={predictions}"
        )
    if are_one_hot(y_true, y_pred):
        return ops.cast(y_true, dtype)
    if len(labels) == len(predictions) and labels[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    if len(y_true.shape) != len(predictions) - 1:
        raise ValueError(
            "`y_true` must be integers of shape "
            f"{predictions[:-1]} or one-hot of shape {predictions}. "
            f"Received: y_true.shape={labels}"
        )
    return one_hot(y_true, num_classes, dtype)


def are_one_hot(y_true, y_pred):
    """Whether labels are one-hot rows, as far as their shape tells."""
    labels, predictions = tuple(y_true.shape), tuple(y_pred.shape)
    # An unknown size is that of a generator of one-hot labels.
    same_rank = len(labels) == len(predictions)
    return same_rank and labels[-1] in (predictions[-1], None)


def one_hot(ids, num_classes, dtype):
    """One-hot vectors of class ids, zeros for what is no class."""
    # No `ops.one_hot`: what that does out of range depends on the backend.
    ids = ops.expand_dims(ops.cast(ids, "int32"), axis=-1)
    return ops.cast(ids == ops.arange(num_classes), dtype)


def check_num_classes(num_classes):
    """An integer of at least 2."""
    try:
        number = operator.index(num_classes)
    except TypeError:
        raise TypeError(
            "`num_classes` must be an integer. "
            f"Received: num_classes={num_classes!r}"
        ) from None
    if number < 2:
        raise ValueError(
            "`num_classes` must be at least 2. "
            f"Received: num_classes={num_classes!r}"
        )
    return number
