"""Files as those of Fashion-MNIST, of images that are easy to tell apart."""

import gzip

import numpy as np

NAMES = ("train", "t10k")


def idx(array):
    """An array in the format of the MNIST files."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write(folder, arrays):
    """Writes the four files from two tuples of images and labels."""
    for name, (x, y) in zip(NAMES, arrays, strict=True):
        for content, array in (("images-idx3", x), ("labels-idx1", y)):
            path = folder / f"{name}-{content}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(array), 1, mtime=0))
    return folder


def write_easy(folder, train_per_class=1000, test_per_class=50):
    """Images of ten faint patterns under noise."""
    rng = np.random.default_rng(0)
    # Coarse and symmetric: shifted by a pixel or mirrored, they stay what they
    # are.
    halves = rng.integers(48, size=(10, 4, 2)).repeat(7, 1).repeat(7, 2)
    patterns = np.concatenate([halves, halves[:, :, ::-1]], axis=2)

    def images(per_class):
        y = np.tile(np.arange(10, dtype="uint8"), per_class)
        noise = rng.integers(208, size=(len(y), 28, 28))
        return (patterns[y] + noise).astype("uint8"), y

    return write(folder, (images(train_per_class), images(test_per_class)))
