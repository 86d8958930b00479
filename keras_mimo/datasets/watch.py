import importlib.util
import operator
from pathlib import Path

import numpy as np

from keras_mimo.datasets.safe_numpy import load_object_array

WATCH_CLASSES = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
"""The exercises of `load_watch`, in the order of its labels."""

_LENGTH = 100
_STEP = 50
_MODALITIES = {"accel": slice(0, 3), "gyro": slice(3, 6)}


def load_watch(test_subjects=(1, 4, 7, 10), standardize=True):
    """Loads the shoulder exercises recorded by a smartwatch, two modalities.

    Ten healthy subjects did sets of 20 repetitions of seven physiotherapy
    exercises, with the left and with the right arm: 140 recordings of an
    accelerometer and a gyroscope at 50 Hz. Each recording is cut into windows
    of 100 samples (2 seconds) that start every 50 samples: 4677 windows, 502
    to 780 a class. The split is by subject, so the test set holds people the
    model has never seen.

    The data is the file `data/watch_dataset.npy` of the PyPI package
    `seglearn`. It is neither downloaded nor bundled: install it with
    `pip install seglearn`. The package is not imported, and the file is read
    with `keras_mimo.datasets.safe_numpy.load_object_array`, so no code of
    either runs.

    The classes, in the order of `keras_mimo.datasets.WATCH_CLASSES`:

    | label | name | exercise | windows |
    |---|---|---|---|
    | 0 | `PEN` | pendulum | 502 |
    | 1 | `ABD` | abduction | 770 |
    | 2 | `FEL` | forward elevation | 780 |
    | 3 | `IR` | internal rotation, resistance band | 718 |
    | 4 | `ER` | external rotation, resistance band | 723 |
    | 5 | `TRAP` | lower trapezius row, resistance band | 583 |
    | 6 | `ROW` | bent-over row, dumbbell | 601 |

    **License**: `seglearn`, its data file included, is distributed under the
    BSD 3-Clause license, Copyright (c) 2018, David M. Burns. Work that uses
    the data should cite the first reference.

    Args:
        test_subjects: Sequence of distinct integers from 1 to 10, the subjects
            held out for the test set; at least one must be left for training.
            The default gives 2778 training and 1899 test windows.
        standardize: Whether to subtract from each of the six channels its mean
            and to divide it by its standard deviation, both over the training
            windows. An all-zero input is then the average training reading,
            which is how a lost sensor can be simulated. If `False`, values are
            as recorded.

    Returns:
        Tuple of dicts and NumPy arrays:
        `(x_train, y_train), (x_test, y_test)`.

        **`x_train`, `x_test`**: dicts with `"accel"` (acceleration along x, y,
        z) and `"gyro"` (angular velocity about x, y, z), both `float32` NumPy
        arrays of shape `(num_windows, 100, 3)`.

        **`y_train`, `y_test`**: `int32` NumPy arrays of shape
        `(num_windows,)` with labels in the range 0-6.

        Windows of one recording are next to each other, in order of time.

    Raises:
        ImportError: `seglearn` is not installed, or has no data file.
        ValueError: `test_subjects` is empty, repeats a subject, names one that
            does not exist, or leaves none for training.
        pickle.UnpicklingError: The data file is damaged, or holds something
            other than NumPy arrays and plain Python values.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = keras_mimo.datasets.load_watch()
    assert x_train["accel"].shape == (2778, 100, 3)
    assert x_train["gyro"].shape == (2778, 100, 3)
    assert y_train.shape == (2778,)
    assert x_test["accel"].shape == (1899, 100, 3)

    model.fit(x_train, y_train)
    lost_gyro = {**x_test, "gyro": np.zeros_like(x_test["gyro"])}
    model.evaluate(lost_gyro, y_test)
    ```

    Reference:

    - [Burns et al., 2018, Shoulder Physiotherapy Exercise Recognition: Machine
      Learning the Inertial Signals from a Smartwatch](
      https://arxiv.org/abs/1802.01489)
    - [Burns and Whyne, 2018, Seglearn: A Python Package for Learning Sequences
      and Time Series](https://arxiv.org/abs/1803.08118)
    """
    data = load_object_array(_data_path()).item()
    test_subjects = _check_subjects(test_subjects, np.unique(data["subject"]))

    held_out = np.isin(data["subject"], test_subjects)
    x_train, y_train = _windows(data, np.flatnonzero(~held_out))
    x_test, y_test = _windows(data, np.flatnonzero(held_out))
    if standardize:
        mean = x_train.mean(axis=(0, 1))
        std = x_train.std(axis=(0, 1))
        x_train = (x_train - mean) / std
        x_test = (x_test - mean) / std
    return (_modalities(x_train), y_train), (_modalities(x_test), y_test)


def _data_path():
    spec = importlib.util.find_spec("seglearn")
    folders = (spec and spec.submodule_search_locations) or ()
    for folder in folders:
        path = Path(folder, "data", "watch_dataset.npy")
        if path.is_file():
            return path
    raise ImportError(
        "`load_watch` reads the file `data/watch_dataset.npy` of the package "
        "`seglearn`, which was not found. Install it with "
        "`pip install seglearn`."
    )


def _check_subjects(test_subjects, known):
    expected = (
        "Expected `test_subjects` to be a sequence of distinct subjects out "
        f"of {known.tolist()} that leaves at least one for training. "
        f"Received: test_subjects={test_subjects!r}"
    )
    try:
        subjects = [operator.index(subject) for subject in test_subjects]
    except TypeError as error:
        raise ValueError(expected) from error
    unknown = sorted(set(subjects) - set(known.tolist()))
    if unknown:
        raise ValueError(f"{expected} (there is no subject {unknown})")
    if not subjects:
        raise ValueError(f"{expected} (it is empty)")
    if len(set(subjects)) < len(subjects):
        raise ValueError(f"{expected} (a subject is repeated)")
    if len(subjects) == len(known):
        raise ValueError(f"{expected} (none is left)")
    return subjects


def _windows(data, recordings):
    windows, labels = [], []
    for index in recordings:
        views = np.lib.stride_tricks.sliding_window_view(
            data["X"][index], _LENGTH, axis=0
        )[::_STEP]
        windows.append(views.transpose(0, 2, 1))
        labels.append(np.full(len(views), data["y"][index], "int32"))
    return np.concatenate(windows), np.concatenate(labels)


def _modalities(x):
    return {
        name: np.ascontiguousarray(x[:, :, channels], "float32")
        for name, channels in _MODALITIES.items()
    }
