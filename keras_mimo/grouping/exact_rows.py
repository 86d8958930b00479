import numpy as np

# Columns are cast to float64 a few at a time: 8 MiB.
CAST_SIZE = 2**20


class ExactRows:
    """One row per class, of as many coordinates at a time as memory allows.

    Args:
        num_rows: Integer.
        sizes: List of the sizes of the variables.
        max_memory: Integer, the number of bytes for the rows in float32.
    """

    def __init__(self, num_rows, sizes, max_memory):
        capacity = min(max_memory // (4 * num_rows), sum(sizes))
        if capacity < 1:
            raise ValueError(
                "`max_memory` must be at least 4 bytes for each class. "
                f"Received: max_memory={max_memory} for {num_rows} classes"
            )
        self._chunks = split(sizes, capacity)
        self.num_passes = len(self._chunks)
        self._rows = np.empty((num_rows, capacity), dtype="float32")
        self._chunk = None

    def begin(self, index):
        """Begins a pass. Returns the indices of the variables it needs."""
        self._chunk = self._chunks[index]
        self._rows[:] = 0.0
        return tuple(variable for variable, _, _ in self._chunk)

    def add(self, row, gradients):
        """Adds gradients of the variables of this pass to a row."""
        column = 0
        pieces = zip(gradients, self._chunk, strict=True)
        for gradient, (_, start, stop) in pieces:
            end = column + stop - start
            self._rows[row, column:end] += gradient.reshape(-1)[start:stop]
            column = end

    def gramian(self):
        """Returns the inner products of the rows, of this pass, in float64."""
        count, width = self._rows.shape
        step = max(1, CAST_SIZE // count)
        total = np.zeros((count, count))
        for start in range(0, width, step):
            columns = self._rows[:, start : start + step].astype("float64")
            total += columns @ columns.T
        return total


def split(sizes, capacity):
    """Cuts variables into chunks of at most `capacity` coordinates.

    Args:
        sizes: List of integers.
        capacity: Integer.

    Returns:
        List of chunks, each a list of tuples `(variable, start, stop)`.
    """
    chunks, free = [[]], capacity
    for variable, size in enumerate(sizes):
        start = 0
        while start < size:
            if free == 0:
                chunks.append([])
                free = capacity
            stop = min(size, start + free)
            chunks[-1].append((variable, start, stop))
            free -= stop - start
            start = stop
    return chunks
