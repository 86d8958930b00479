import numpy as np


def class_ids(y, num_classes):
    """The class of every sample.

    Args:
        y: Array of class ids of shape `(n,)` or `(n, 1)`, or of one-hot rows of
            shape `(n, num_classes)`. The class of a smoothed row is its
            largest entry.
        num_classes: Integer.

    Returns:
        Array of shape `(n,)` of int32.

    Raises:
        ValueError: If labels are of another shape, or out of range.
    """
    if y.ndim == 2 and y.shape[1] == num_classes > 1:
        return _of_one_hot(y)
    if y.ndim not in (1, 2) or y.size != len(y):
        raise ValueError(
            "Labels must be class ids, of shape `(n,)` or `(n, 1)`, or one-hot "
            "rows of shape `(n, num_classes)`. Received: labels of shape "
            f"{y.shape} for num_classes={num_classes}"
        )
    y = y.reshape(-1)
    known = (y >= 0) & (y < num_classes) & (y == np.floor(y))
    if not known.all():
        raise ValueError(
            f"Labels must be integers from 0 to {num_classes - 1}. "
            f"Received: {np.unique(y[~known])[:10].tolist()} for "
            f"num_classes={num_classes}"
        )
    return y.astype("int32")


def _of_one_hot(y):
    largest = y == y.max(axis=1, keepdims=True)
    unclear = np.flatnonzero(largest.sum(axis=1) != 1)
    if unclear.size:
        raise ValueError(
            "One-hot labels must have one largest entry in each row. "
            f"Received: {y[unclear[0]].tolist()}"
        )
    return y.argmax(axis=1).astype("int32")
