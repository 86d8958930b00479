"""The batches that a callback looks at again and again."""

import contextlib
import itertools
import random
import sys
from collections.abc import Iterable
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops
from keras import tree


def kept_batches(data, number, batch_size):
    """Reads the first batches of a dataset, or some of arrays.

    Nothing else draws other random numbers because of it.

    Args:
        data: As in `BalanceMonitor`.
        number: Integer, how many batches.
        batch_size: Integer, for arrays.

    Returns:
        List of tuples `(x, y, sample_weight)`.

    Raises:
        TypeError: If `data` is no arrays and no dataset.
        ValueError: If it holds no batch with labels, or can be read only once.
    """
    if isinstance(data, tuple):
        return _of_arrays(data, number, batch_size)
    batches = data
    if isinstance(data, Iterator):
        raise ValueError(
            "`data` must be arrays or a dataset, not an iterator, which can be "
            f"read only once. Received: data={data}"
        )
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        count = number if count is None else min(number, count)
        batches = map(data.__getitem__, range(count))
    elif not isinstance(data, Iterable) or isinstance(data, (dict, str)):
        raise TypeError(
            "`data` must be a tuple of arrays, `(x, y)` or "
            "`(x, y, sample_weight)`, or a dataset of such batches. "
            f"Received: data={data} of type {type(data)}"
        )
    # To begin to read is enough for some to draw.
    with _same_draws():
        found = [
            _labelled(batch) for batch in itertools.islice(batches, number)
        ]
    if not found:
        raise ValueError(
            f"`data` must hold at least one batch. Received: data={data}"
        )
    return found


def _of_arrays(data, number, batch_size):
    """Batches of the same size, of rows from everywhere in the arrays."""
    x, y, sample_weight = _labelled(data)
    lengths = {len(leaf) for leaf in tree.flatten((x, y)) if leaf is not None}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "`data` must hold arrays of the same length, at least 1. "
            f"Received: lengths {sorted(lengths)}"
        )
    (length,) = lengths
    batch_size = min(batch_size, length)
    number = min(number, length // batch_size)
    # Arrays may be sorted by class.
    rows = np.linspace(0, length - 1, number * batch_size).round().astype(int)
    # Each batch from everywhere too.
    return [
        tree.map_structure(
            lambda leaf: leaf if leaf is None else leaf[rows[start::number]],  # noqa: B023
            (x, y, sample_weight),
        )
        for start in range(number)
    ]


def _labelled(batch):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if y is None:
        raise ValueError(
            "`data` must hold labels, `(x, y)` or `(x, y, sample_weight)`. "
            "Received: no labels"
        )
    return tree.map_structure(_array, (x, y, sample_weight))


def _array(leaf):
    # Also the tensors of other backends and devices. Ragged ones stay.
    if isinstance(leaf, np.ndarray) or not hasattr(leaf, "__array__"):
        return leaf
    return np.asarray(ops.convert_to_numpy(leaf))


@contextlib.contextmanager
def _same_draws():
    """Draws from generators that all share are forgotten.

    An epoch is shuffled by them, and a dataset that is read may draw.
    """
    states = random.getstate(), np.random.get_state()
    # Also on other backends a `DataLoader` draws from it.
    torch = sys.modules.get("torch")
    of_torch = torch and torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(of_torch)
