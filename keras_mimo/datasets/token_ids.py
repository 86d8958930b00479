import numpy as np


def check_tokenize(tokenize):
    """Raises `TypeError` for what is no function."""
    if not callable(tokenize):
        raise TypeError(
            "`tokenize` must be a function from a string to a sequence of "
            f"integers. Received: tokenize={tokenize} of type {type(tokenize)}"
        )


def token_ids(tokenize, texts, length):
    """The ids of texts, cut or filled with zeros at the end.

    Args:
        tokenize: Function of a string that returns a sequence of integers, of
            which 0 stands for no token.
        texts: Sequence of strings.
        length: Integer.

    Returns:
        Array of shape `(texts, length)` and dtype `int32`. Empty texts are not
        given to `tokenize`; all their ids are 0.

    Raises:
        ValueError: If `tokenize` returns something else.
    """
    rows = np.zeros((len(texts), length), "int32")
    for row, text in zip(rows, texts, strict=True):
        if text:
            fill(row, _checked(tokenize(text)))
    return rows


def fill(row, ids):
    """Writes as many ids as fit at the start of a row."""
    kept = ids[: len(row)]
    row[: len(kept)] = kept


def _checked(result):
    try:
        ids = np.asarray(result)
    # Of rows of several lengths.
    except ValueError:
        ids = np.array(None)
    # An empty list has no dtype of its own.
    valid = ids.ndim == 1 and (ids.dtype.kind in "iu" or not ids.size)
    if not valid or (ids.size and not 0 <= ids.min() <= ids.max() < 2**31):
        raise ValueError(
            "`tokenize` must return a sequence of integers from 0 up. "
            f"Received: {result!r}"
        )
    return ids
