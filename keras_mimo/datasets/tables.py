import csv

import numpy as np


def read_table(content, path):
    """Reads a CSV file with titles.

    Args:
        content: Bytes.
        path: Where they are from, for error messages.

    Returns:
        Tuple of a list, the titles, and an array of strings of shape
        `(rows, titles)`.

    Raises:
        ValueError: If it has no rows, or rows of another length.
    """
    try:
        titles, *rows = csv.reader(content.decode().splitlines())
    # No text, no CSV, or no line.
    except (ValueError, csv.Error) as error:
        raise ValueError(f"`{path}` is no CSV file: {error}") from error
    lengths = {len(row) for row in rows}
    if lengths != {len(titles)}:
        raise ValueError(
            f"`{path}` must have rows of {len(titles)} cells, as many as "
            f"titles. Received: rows of {sorted(lengths)} cells"
        )
    return titles, np.array(rows)


def numbers(cells, path):
    """Strings as finite `float64` numbers.

    Args:
        cells: Array of strings.
        path: Where they are from, for error messages.

    Returns:
        Array of the same shape.

    Raises:
        ValueError: If a cell is none.
    """
    try:
        values = cells.astype("float64")
    except ValueError as error:
        raise ValueError(f"`{path}`: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"`{path}` has numbers that are not finite")
    return values


def standardize(train, test):
    """Gives each column mean 0 and deviation 1, by the training part.

    Args:
        train: Dict of arrays of shape `(n, columns)`, by modality.
        test: The same, of other samples.

    Returns:
        Tuple of two dicts of `float32` arrays. A column that is constant in
        `train` is only shifted.
    """
    parts = {}, {}
    for name, x in train.items():
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        deviation[deviation == 0] = 1
        for part, values in zip(parts, (x, test[name]), strict=True):
            part[name] = ((values - mean) / deviation).astype("float32")
    return parts
