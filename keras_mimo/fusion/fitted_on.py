import weakref

import numpy as np
from keras import ops
from keras import tree

# Enough to find a twentieth of the rows again.
_ROWS = 1000


class FittedOn:
    """Remembers what `fit()` was given, to know it again.

    Of arrays it keeps a hash of each of up to 1000 rows, evenly spaced; of a
    dataset, a weak reference.

    Args:
        x: As given to `fit()`.
        validation_split: Float, the share of the last rows that was not fitted.
    """

    def __init__(self, x, validation_split=0.0):
        self._hashes = set()
        self._num_rows = 0
        self._dataset = None
        leaves = _arrays(x)
        if leaves:
            self._num_rows = int(len(leaves[0]) * (1 - (validation_split or 0)))
            chosen = np.linspace(
                0, self._num_rows - 1, min(_ROWS, self._num_rows)
            )
            chosen = chosen.astype(int)
            self._hashes = set(row_hashes(leaf[chosen] for leaf in leaves))
        elif not tree.is_nested(x):
            try:
                self._dataset = weakref.ref(x)
            except TypeError:
                pass

    def is_dataset(self, x):
        """Whether it is the very dataset that `fit()` was given."""
        return self._dataset is not None and self._dataset() is x

    def recognizer(self):
        """Counts, batch by batch, which of the rows are seen again."""
        return Recognizer(self._hashes, self._num_rows)


class Recognizer:
    """Whether data are rows of those that `fit()` was given.

    Args:
        hashes: Set of hashes of fitted rows.
        num_fitted: Integer, how many rows were fitted.
    """

    def __init__(self, hashes, num_fitted):
        self._hashes = hashes
        self._num_fitted = num_fitted
        self._found = set()
        self._num_rows = 0

    def add(self, x):
        leaves = _arrays(x)
        if leaves and self._hashes:
            self._num_rows += len(leaves[0])
            self._found |= self._hashes.intersection(row_hashes(leaves))

    def recognizes(self):
        """Whether as many rows are known as if most of them were fitted."""
        if not self._hashes:
            return False
        share = min(1.0, self._num_rows / self._num_fitted)
        expected = share * len(self._hashes)
        # Some rows may be in both sets, or occur twice, by chance.
        return len(self._found) > max(2, 0.5 * expected)


def row_hashes(leaves):
    """A hash of each row of arrays of the same length, as an iterator."""
    leaves = [
        leaf.astype("float32") if leaf.dtype.kind in "fiub" else leaf
        for leaf in leaves
    ]
    for row in zip(*leaves, strict=True):
        yield hash(b"".join(part.tobytes() for part in row))


def _arrays(x):
    """The arrays of inputs in the order of their names; `[]` for others."""
    leaves = sorted(
        tree.flatten_with_path(x), key=lambda leaf: list(map(str, leaf[0]))
    )
    leaves = [leaf for _, leaf in leaves]
    if not all(isinstance(x, np.ndarray) or ops.is_tensor(x) for x in leaves):
        return []
    leaves = [
        x if isinstance(x, np.ndarray) else ops.convert_to_numpy(x)
        for x in leaves
    ]
    lengths = {len(x) if x.ndim else 0 for x in leaves}
    return leaves if len(lengths) == 1 and lengths.pop() > 0 else []
