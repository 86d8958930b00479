import numpy as np

# Coordinates that get their random numbers together: they fit a cache.
PIECE_SIZE = 2**18
# Eight signs for every byte: looking them up is faster than unpacking bits.
SIGNS = 1.0 - 2.0 * np.unpackbits(
    np.arange(256, dtype="uint8")[:, None], axis=1
).astype("float32")


class SketchedRows:
    """One row per class, projected at random to a few numbers: count sketch.

    Every coordinate is added to one of `width` buckets with a random sign. The
    inner product of two rows `g` and `h` is unbiased, with a variance of at
    most `(|g|^2 |h|^2 + (g . h)^2) / width`; the standard error of a cosine is
    about `(1 - cosine^2) / sqrt(width)`.

    The coordinates of a block of `width` share a random rotation, so that they
    never collide with each other, and those of two blocks do with probability
    `1 / width`. Adding a rotated block is much faster than scattering.

    Args:
        num_rows: Integer.
        sizes: List of the sizes of the variables.
        max_memory: Integer, the number of bytes for the rows in float64.
        width: Integer.
        seed: Integer. The same seed gives the same projection.
    """

    num_passes = 1

    def __init__(self, num_rows, sizes, max_memory, width, seed):
        if 8 * num_rows * width > max_memory:
            raise ValueError(
                "`projection` must fit in `max_memory` with 8 bytes for each "
                f"class and dimension. Received: projection={width}, "
                f"max_memory={max_memory} for {num_rows} classes"
            )
        self._num_variables = len(sizes)
        self._rows = np.zeros((num_rows, width))
        self._seed = seed

    def begin(self, index):
        """Begins the only pass. Returns the indices of all variables."""
        return tuple(range(self._num_variables))

    def add(self, row, gradients):
        """Adds the projection of gradients to a row."""
        width = self._rows.shape[1]
        total = np.zeros(width)
        for variable, gradient in enumerate(gradients):
            flat = gradient.reshape(-1)
            for start in range(0, flat.size, PIECE_SIZE):
                rng = np.random.default_rng([self._seed, variable, start])
                piece = flat[start : start + PIECE_SIZE]
                total += _project(piece, width, rng)
        self._rows[row] += total

    def gramian(self):
        """Returns the inner products of the rows, in float64."""
        return self._rows @ self._rows.T


def _project(piece, width, rng):
    random_bytes = np.frombuffer(rng.bytes(-(-piece.size // 8)), dtype="uint8")
    signs = SIGNS.take(random_bytes, axis=0).reshape(-1)
    signed = piece * signs[: piece.size]
    starts = range(0, piece.size, width)
    shifts = rng.integers(width, size=len(starts)).tolist()
    # What a rotation moves past the end is folded back.
    unfolded = np.zeros(2 * width, dtype=signed.dtype)
    for start, shift in zip(starts, shifts, strict=True):
        block = signed[start : start + width]
        unfolded[shift : shift + block.size] += block
    return unfolded[:width] + unfolded[width:]
