import numpy as np


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
        TypeError: If `tokenize` is no function.
        ValueError: If it returns something else.
    """
    if not callable(tokenize):
        raise TypeError(
            "`tokenize` must be a function from a string to a sequence of "
            f"integers. Received: tokenize={tokenize} of type {type(tokenize)}"
        )
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
    ids = np.asarray(result)
    # An empty list has no integers.
    if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu")):
        valid = False
    else:
        valid = not ids.size or (ids.min() >= 0 and ids.max() < 2**31)
    if not valid:
        raise ValueError(
            "`tokenize` must return a sequence of integers from 0 up. "
            f"Received: {result!r}"
        )
    return ids
