from collections.abc import Iterable
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras import tree


class LabelledBatches:
    """Labelled data, in any form that `fit()` takes, to be read again.

    Args:
        argument: Name of the argument that the user gave.
        data: Tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a dataset
            of such batches that comes to an end.
        batch_size: Positive integer, for arrays.

    Raises:
        TypeError: If `data` is neither.
        ValueError: If it can't be read again, has no end, or if arrays have no
            labels or are not of one length.
    """

    def __init__(self, argument, data, batch_size):
        self._argument = argument
        self._data = data
        self._batch_size = batch_size
        self._arrays = None
        if isinstance(data, tuple):
            self._arrays = self._labelled(data)
            lengths = set(map(len, tree.flatten(_given(self._arrays))))
            if len(lengths) > 1 or 0 in lengths:
                raise ValueError(
                    f"`{argument}` must hold as many samples in each of its "
                    f"arrays, and at least one. Received: {sorted(lengths)}"
                )
            (self._num_rows,) = lengths
        elif not _is_dataset(data):
            raise TypeError(
                f"`{argument}` must be a tuple `(x, y)` of arrays, or a "
                f"dataset of batches `(x, y)`. "
                f"Received: {argument}={data} of type {type(data)}"
            )
        elif isinstance(data, Iterator) or _is_endless(data):
            raise ValueError(
                f"`{argument}` must come to an end, and be readable again. "
                f"Received: {argument}={data} of type {type(data)}"
            )

    def __call__(self, rng=None):
        """Yields tuples `(x, y, sample_weight)`.

        Args:
            rng: A NumPy generator that shuffles arrays. Datasets come in the
                order that they have.
        """
        for batch in self._batches(rng):
            yield self._labelled(batch)

    def _batches(self, rng):
        if self._arrays is not None:
            return self._slices(rng)
        if isinstance(self._data, keras.utils.PyDataset):
            # Its own iteration need not end.
            return (self._data[k] for k in range(self._data.num_batches))
        return self._data

    def _slices(self, rng):
        order = np.arange(self._num_rows)
        if rng is not None:
            order = rng.permutation(order)
        for start in range(0, self._num_rows, self._batch_size):
            rows = order[start : start + self._batch_size]
            yield tree.map_structure(
                lambda leaf: None if leaf is None else leaf[rows],  # noqa: B023
                self._arrays,
            )

    def _labelled(self, batch):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            raise ValueError(
                f"`{self._argument}` must hold labels: `(x, y)` or "
                f"`(x, y, sample_weight)`. Received: {type(batch)} without y"
            )
        return tree.map_structure(_array, (x, y, sample_weight))


def num_samples(x):
    """How many samples a batch has."""
    return len(_given(x)[0])


def _given(structure):
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def _array(leaf):
    # What other frameworks made are no tensors to the backend. An array may
    # be mapped from disk.
    if leaf is None or isinstance(leaf, np.ndarray):
        return leaf
    return np.asarray(ops.convert_to_numpy(leaf))


def _is_dataset(data):
    # These can be iterated over, but not by batches.
    if isinstance(data, (dict, str)) or hasattr(data, "shape"):
        return False
    return isinstance(data, (keras.utils.PyDataset, Iterable))


def _is_endless(data):
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    # That of an endless tf.data.Dataset is -1.
    return hasattr(data, "cardinality") and int(data.cardinality()) == -1
