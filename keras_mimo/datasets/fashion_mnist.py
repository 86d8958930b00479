from pathlib import Path

import keras

from keras_mimo.datasets.idx import load_idx
from keras_mimo.datasets.long_tail import long_tail

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def load_fashion_mnist_lt(
    imbalance_factor=0.01,
    kind="exp",
    class_order=None,
    max_count=None,
    seed=0,
    path=None,
):
    """Loads Fashion-MNIST with a long-tailed training set.

    It stands in for CIFAR-LT where that cannot be had: gray images of 28 x 28
    pixels, ten kinds of clothes. The test set is whole, 1000 images a class.
    In the given order the tail is 7 to 9 (sneaker, bag, boot), the easiest of
    the classes: look at the recall of each, and try another `class_order`.

    The files are those of the Debian package `dataset-fashion-mnist`
    (`apt-get install dataset-fashion-mnist`). Where it is not installed,
    `keras.datasets.fashion_mnist` downloads them.

    **License**: Fashion-MNIST is under the MIT license, Copyright (c) 2017
    Zalando SE.

    Args:
        imbalance_factor: As for `keras_mimo.datasets.long_tail`.
            Defaults to `0.01`.
        kind: `"exp"` or `"step"`. Defaults to `"exp"`.
        class_order: All labels, the class that keeps most first, or `None` for
            0 to 9. Defaults to `None`.
        max_count: Integer, the size of the largest class, up to 6000. Defaults
            to `None`: 6000.
        seed: Integer, decides which images are kept. Defaults to `0`.
        path: Folder with the four files `train-images-idx3-ubyte.gz`, ...
            Defaults to `None`: that of the Debian package.

    Returns:
        Tuple of NumPy arrays: `(x_train, y_train), (x_test, y_test)`, images
        of shape `(n, 28, 28)` with values from 0 to 255 and labels of shape
        `(n,)`, all `uint8`.

    Raises:
        FileNotFoundError: If `path` has no such files.
        RuntimeError: If `path` is `None`, the package is not installed and the
            download fails.
        ValueError: If a file is damaged, or an argument is out of range.

    Example:

    ```python
    train, test = keras_mimo.datasets.load_fashion_mnist_lt(max_count=1000)
    counts = keras_mimo.datasets.class_counts(train)
    ```

    Reference:

    - [Xiao et al., 2017, Fashion-MNIST: a Novel Image Dataset for Benchmarking
      Machine Learning Algorithms](https://arxiv.org/abs/1708.07747)
    """
    if path is not None or _DEBIAN.is_dir():
        train, test = _read(_DEBIAN if path is None else Path(path))
    else:
        train, test = _download()
    train = long_tail(
        *train, imbalance_factor, kind, class_order, max_count, seed
    )
    return train, test


def _read(folder):
    missing = [name for name in _names() if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`{folder}` lacks {missing}. Install the Debian package "
            "`dataset-fashion-mnist`, or give another `path`."
        )
    x_train, y_train, x_test, y_test = (
        load_idx(folder / name) for name in _names()
    )
    return (x_train, y_train), (x_test, y_test)


def _names():
    return [
        f"{part}-{content}-ubyte.gz"
        for part in ("train", "t10k")
        for content in ("images-idx3", "labels-idx1")
    ]


def _download():
    try:
        return keras.datasets.fashion_mnist.load_data()
    # Whatever the network raises; `get_file` makes it a bare Exception.
    except Exception as error:
        raise RuntimeError(
            f"Fashion-MNIST is not at {_DEBIAN} and could not be downloaded. "
            "Install the Debian package `dataset-fashion-mnist`, or give "
            "`path`, a folder with its four files."
        ) from error
