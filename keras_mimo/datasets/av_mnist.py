from pathlib import Path

import numpy as np

from keras_mimo.datasets import clips
from keras_mimo.datasets.samples import Samples

# The rows that MultiBench trains with; it validates with the others.
_TRAINED = 55000
_SHAPES = {"image": (784,), "audio": (112, 112)}
_INPUTS = {"image": (28, 28, 1), "audio": (112, 112, 1)}


def load_av_mnist(folder, batch_size=32, seed=0, **kwargs):
    """Loads AV-MNIST, digits that are written and spoken.

    70,000 pictures of MNIST with three quarters of their energy taken away,
    each with the spectrogram of a spoken digit of the same class, with noise.

    The data is neither downloaded nor bundled. MultiBench
    (https://github.com/pliang279/MultiBench) says where it is. `folder` is laid
    out as there:

    ```
    image/train_data.npy, image/test_data.npy    (60000 or 10000, 784)
    audio/train_data.npy, audio/test_data.npy    (60000 or 10000, 112, 112)
    train_labels.npy, test_labels.npy            (60000 or 10000,)
    ```

    **License**: MNIST is under CC BY-SA 3.0, the sound under the license of the
    spoken digits that it was made of.

    Args:
        folder: Folder with the above.
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides the orders of the training part. Defaults to `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `Samples`. As in MultiBench, the
        rows from 55,000 on are for validation. `train` alone is shuffled.

        **Inputs**: dict of `"image"`, `float32` of shape `(28, 28, 1)`, and
        `"audio"`, `float32` of shape `(112, 112, 1)`, both divided by 255.

        **Labels**: `int32`, the digits.

        The files stay on disk: rows are read as they are needed.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or of another form.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_av_mnist("avmnist")
    ```

    Reference: Vielzeuf et al., CentralNet: a Multilayer Approach for Multimodal
    Fusion, 2018. What is read, and how: Liang et al., MultiBench, 2021
    (`datasets/avmnist/get_data.py` of its code).
    """
    folder = Path(folder)
    clips.check_folder(
        folder,
        *(
            name
            for part in ("train", "test")
            for name in (
                f"image/{part}_data.npy",
                f"audio/{part}_data.npy",
                f"{part}_labels.npy",
            )
        ),
    )
    options = {"batch_size": batch_size, "seed": seed, **kwargs}
    rows, labels = _part(folder, "train")
    if len(labels) <= _TRAINED:
        raise ValueError(
            f"`{folder / 'train_labels.npy'}` must have more than {_TRAINED} "
            f"rows. Received: {len(labels)}"
        )
    test_rows, test_labels = _part(folder, "test")
    return (
        Samples(rows, labels[:_TRAINED], shuffle=True, **options),
        Samples(rows.after(_TRAINED), labels[_TRAINED:], **options),
        Samples(test_rows, test_labels, **options),
    )


class _Rows:
    """Function from the number of a sample to its modalities, picklable."""

    def __init__(self, paths, start=0):
        self._paths = paths
        self._start = start
        self._arrays = {name: _open(path) for name, path in paths.items()}

    def __reduce__(self):
        # Not the arrays, which are as large as the files.
        return _Rows, (self._paths, self._start)

    def __call__(self, index):
        row = self._start + index
        return {
            name: array[row].reshape(_INPUTS[name]).astype("float32") / 255
            for name, array in self._arrays.items()
        }

    def after(self, start):
        """The rows from a number on."""
        return _Rows(self._paths, start)

    def check(self, count):
        """Raises `ValueError` for arrays of another shape."""
        for name, array in self._arrays.items():
            expected = (count, *_SHAPES[name])
            if array.shape != expected or array.dtype.kind not in "uif":
                raise ValueError(
                    f"`{self._paths[name]}` must have numbers of shape "
                    f"{expected}, a row for each label. Received: "
                    f"{array.dtype} of shape {array.shape}"
                )


def _part(folder, part):
    path = folder / f"{part}_labels.npy"
    labels = np.asarray(_open(path))
    if (
        labels.ndim != 1
        or not len(labels)
        or labels.dtype.kind not in "uif"
        or not np.isin(labels, np.arange(10)).all()
    ):
        raise ValueError(
            f"`{path}` must have digits of shape (n,). "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    rows = _Rows({name: folder / name / f"{part}_data.npy" for name in _SHAPES})
    rows.check(len(labels))
    return rows, labels.astype("int32")


def _open(path):
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    # Of a damaged header, or of objects.
    except (ValueError, EOFError, SyntaxError) as error:
        raise ValueError(
            f"`{path}` must be a .npy file of numbers. Received: {error}"
        ) from error
