import numbers
import operator

import keras
import numpy as np


def class_counts(dataset, num_classes=None):
    """Counts the samples of each class.

    Args:
        dataset: One of

            - labels: an array, a tensor or a list of integers, of shape `(n,)`
              or `(n, 1)`, or one-hot of shape `(n, C)`;
            - a tuple `(x, y)` or `(x, y, sample_weight)` of arrays;
            - a `tf.data.Dataset`, a `keras.utils.PyDataset`, a PyTorch
              `DataLoader` or any other finite iterable (no tuple) of batches
              `(x, y)` or `(x, y, sample_weight)`, which is read once.
        num_classes: Integer, the number of classes. Defaults to `None`: the
            width of one-hot labels, or one more than the largest label.

    Returns:
        NumPy array of dtype `int64` and shape `(num_classes,)`.

    Raises:
        TypeError: If `dataset` is none of these, or its labels are no integers.
        ValueError: If it is endless, has no labels, or has a label that is
            negative or not below `num_classes`.

    Example:

    ```python
    counts = keras_mimo.datasets.class_counts(y_train)
    model.compile("adam", loss=keras_mimo.losses.LogitAdjusted(counts))
    ```
    """
    if num_classes is not None:
        num_classes = operator.index(num_classes)
    counts = np.zeros(0, "int64")
    for labels in _label_batches(dataset):
        labels, width = _integers(np.asarray(labels))
        size = max(len(counts), width, labels.max(initial=-1) + 1)
        if labels.min(initial=0) < 0 or size > (num_classes or size):
            raise ValueError(
                "Labels must not be negative, and must be below `num_classes`. "
                f"Received: labels from {labels.min(initial=0)} to {size - 1}, "
                f"num_classes={num_classes}"
            )
        counts = np.bincount(labels, minlength=size) + np.pad(
            counts, (0, size - len(counts))
        )
    if not counts.any():
        raise ValueError(
            f"`dataset` has no labels. Received: dataset={dataset!r}"
        )
    return np.pad(counts, (0, (num_classes or len(counts)) - len(counts)))


def _label_batches(dataset):
    if isinstance(dataset, tuple):
        return [_labels(dataset)]
    if isinstance(dataset, keras.utils.PyDataset):
        return _py_dataset_batches(dataset)
    # Iterating over a tensor would yield its rows.
    if hasattr(dataset, "shape") and hasattr(dataset, "dtype"):
        return [dataset]
    if isinstance(dataset, list) and not _holds_batches(dataset):
        return [dataset]
    # That of tf.data is -1 where it is repeated for ever.
    if hasattr(dataset, "cardinality") and int(dataset.cardinality()) == -1:
        raise ValueError(
            f"`dataset` must be finite. Received: dataset={dataset!r}"
        )
    try:
        batches = iter(dataset)
    except TypeError:
        raise TypeError(
            "`dataset` must be labels or an iterable of batches. "
            f"Received: dataset={dataset!r} of type {type(dataset)}"
        ) from None
    return map(_labels, batches)


def _holds_batches(items):
    first = items[0] if items else None
    # A list of lists of numbers is one-hot labels.
    return isinstance(first, tuple) or (
        isinstance(first, list)
        and not isinstance(first[0] if first else 0, numbers.Number)
    )


def _py_dataset_batches(dataset):
    # The batches of a PyDataset have no end of their own.
    if dataset.num_batches is None:
        raise ValueError(
            "`dataset` must be finite, with `__len__()`. "
            f"Received: dataset={dataset!r}"
        )
    return (_labels(dataset[i]) for i in range(dataset.num_batches))


def _labels(batch):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(
            "The batches of `dataset` must be tuples `(x, y)` or "
            f"`(x, y, sample_weight)`. Received: a batch of type {type(batch)}"
        )
    if isinstance(batch[1], dict):
        raise TypeError(
            "The labels must be an array. Received: a dict of "
            f"{sorted(batch[1])}: give the labels of one output"
        )
    return batch[1]


def _integers(labels):
    """The labels as integers of shape `(n,)`, and the width of one-hot ones."""
    width = 0
    if labels.ndim == 2 and labels.shape[1] > 1:
        width = labels.shape[1]
        labels = labels.argmax(axis=1)
    if labels.ndim > 2:
        raise ValueError(
            "Labels must be of shape (n,), (n, 1) or one-hot (n, C). "
            f"Received: shape={labels.shape}"
        )
    labels = labels.ravel()
    try:
        integers = labels.astype("int64")
    except (TypeError, ValueError):
        integers = None
    if integers is None or (integers != labels).any():
        raise TypeError(
            f"Labels must be integers. Received: {labels[:10].tolist()}"
        )
    return integers, width
