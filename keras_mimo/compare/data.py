import typing

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.datasets.stratified import split_off
from keras_mimo.fusion.held_out import are_arrays
from keras_mimo.fusion.held_out import labelled_batches

# The share of the training data that is held out where it has to be.
HELD_OUT = 0.2


class Data(typing.NamedTuple):
    """Data as `fit()` takes it: `fit(**data._asdict())`."""

    x: typing.Any
    y: typing.Any = None
    sample_weight: typing.Any = None

    def as_given(self):
        """As `compare()` takes it, and `fit(validation_data=...)`."""
        if not are_arrays(self.x):
            return self.x
        return tuple(self) if self.sample_weight is not None else self[:2]


def as_data(argument, given):
    """What the user gave, `(x, y)` or `(x, y, weights)` or a dataset.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(given, (tuple, list)) and 2 <= len(given) <= 3:
        return Data(*given)
    if isinstance(given, keras.utils.PyDataset) or hasattr(given, "__iter__"):
        if not are_arrays(given):
            return Data(given)
    raise TypeError(
        f"`{argument}` must be a tuple `(x, y)` or `(x, y, sample_weight)` of "
        "arrays, or a dataset of such batches. "
        f"Received: {argument} of type {type(given)}"
    )


def held_out(train, seed):
    """Divides training data: the rest, and a fifth to validate on.

    Classes are as frequent in both where labels are class ids.

    Raises:
        ValueError: If the data are a dataset.
    """
    if not are_arrays(train.x):
        raise ValueError(
            "`validation` must be given where `train` is a dataset, and "
            "something is fitted to, or chosen on, data held out. "
            "Received: validation=None"
        )
    y = np.asarray(ops.convert_to_numpy(train.y))
    ids = y.reshape(len(y), -1)
    is_ids = ids.shape[1] == 1 and np.all(np.mod(ids, 1) == 0)
    ids = ids[:, 0] if is_ids else np.zeros(len(y))
    arrays = tree.map_structure(ops.convert_to_numpy, (train.x, train.y))
    weights = train.sample_weight
    if weights is not None:
        arrays = (*arrays, ops.convert_to_numpy(weights))
    rest, part = split_off(arrays, ids, HELD_OUT, seed)
    return Data(*rest[0]), Data(*part[0])


def first_batch(data, batch_size):
    """The first samples of data, as `(x, y, sample_weight)`."""
    batch = next(iter(labelled_batches(*data)))
    if are_arrays(data.x):
        return tree.map_structure(lambda a: np.asarray(a)[:batch_size], batch)
    return batch
