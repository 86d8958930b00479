from collections.abc import Iterable
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.grouping.labels import class_ids


class Batches:
    """The labelled batches of any data that `fit()` takes, as NumPy arrays.

    Yields tuples `(x, y, class_ids, sample_weight)`.

    Args:
        dataset: As in `class_gramian()`.
        num_classes: Integer.
        batch_size: Integer, for arrays.
    """

    def __init__(self, dataset, num_classes, batch_size):
        self._dataset = dataset
        self._num_classes = num_classes
        self.repeatable = not isinstance(dataset, Iterator)
        if isinstance(dataset, tuple):
            x, y, sample_weight = _as_arrays(dataset)
            ids = class_ids(y, num_classes)
            self._batches = _Arrays(x, y, ids, sample_weight, batch_size)
        elif isinstance(dataset, keras.utils.PyDataset):
            self._batches = _Indexed(dataset)
        elif isinstance(dataset, Iterable):
            self._batches = dataset
        else:
            raise ValueError(
                "`dataset` must be a tuple `(x, y)` of arrays or an iterable "
                "of batches `(x, y)`. "
                f"Received: dataset={dataset} of type {type(dataset)}"
            )

    def __len__(self):
        """The number of batches; `TypeError` where nobody knows it."""
        return len(self._batches)

    def __iter__(self):
        for batch in self._batches:
            x, y, sample_weight = _as_arrays(batch)
            ids = class_ids(y, self._num_classes)
            _check_sizes(x, ids, sample_weight)
            if sample_weight is None:
                sample_weight = np.ones(len(ids), dtype="float32")
            yield x, y, ids, sample_weight.reshape(-1).astype("float32")


class _Arrays:
    """Batches of arrays, class by class.

    A batch costs one backward pass per class in it, so that a shuffled order
    could cost many times more.
    """

    def __init__(self, x, y, ids, sample_weight, batch_size):
        _check_sizes(x, ids, sample_weight)
        self._arrays = (x, y, sample_weight)
        self._order = np.argsort(ids, kind="stable")
        self._batch_size = batch_size

    def __len__(self):
        return -(-len(self._order) // self._batch_size)

    def __iter__(self):
        for start in range(0, len(self._order), self._batch_size):
            rows = self._order[start : start + self._batch_size]
            yield tree.map_structure(
                lambda a: None if a is None else a[rows],  # noqa: B023
                self._arrays,
            )


class _Indexed:
    """Batches of a `PyDataset`, whose own iteration need not end."""

    def __init__(self, dataset):
        self._dataset = dataset
        if dataset.num_batches is None:
            raise ValueError(
                "`dataset` must be finite. Received: a PyDataset whose "
                "`num_batches` is None"
            )

    def __len__(self):
        return self._dataset.num_batches

    def __iter__(self):
        return (self._dataset[index] for index in range(len(self)))


def _as_arrays(batch):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if y is None or tree.is_nested(y):
        raise ValueError(
            "`dataset` must hold inputs and one array of labels, `(x, y)` or "
            "`(x, y, sample_weight)`. Received: "
            f"y of type {type(y)}"
        )
    return tree.map_structure(_as_array, (x, y, sample_weight))


def _as_array(leaf):
    # Also the tensors of other backends. An array may be mapped from disk.
    if leaf is None or isinstance(leaf, np.ndarray):
        return leaf
    return ops.convert_to_numpy(leaf)


def _check_sizes(x, ids, sample_weight):
    sizes = [len(leaf) for leaf in tree.flatten(x) if leaf is not None]
    if sample_weight is not None:
        sizes.append(sample_weight.size)
    if any(size != len(ids) for size in sizes):
        raise ValueError(
            "`dataset` must hold one label, and one sample weight if any, for "
            f"each sample. Received: {len(ids)} labels, and {sizes} samples "
            "in the inputs and sample weights"
        )
