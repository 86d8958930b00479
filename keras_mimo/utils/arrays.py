import numbers

import keras
import numpy as np
from keras import tree


def check_arrays(argument, data):
    """Raises where arrays that are given to `fit()` can't be trained with.

    Args:
        argument: Name of the argument of `fit()`.
        data: Structure of arrays. Datasets pass.

    Raises:
        TypeError: If an array holds neither numbers nor what Keras converts,
            or is a number or a string.
        ValueError: If an array is empty.
    """
    for leaf in tree.flatten(data):
        if isinstance(leaf, (numbers.Number, str, bytes)):
            raise TypeError(
                f"`{argument}` must be an array, or a structure of arrays. "
                f"Received: {leaf!r} in the place of an array"
            )
        if isinstance(leaf, np.ndarray):
            _check_array(argument, leaf)


def _check_array(argument, array):
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(
            f"`{argument}` must hold at least one sample. "
            f"Received: an array of shape {array.shape}"
        )
    if array.dtype.kind in "USO" and not _is_string_tensor(array):
        raise TypeError(
            f"`{argument}` must hold numbers. "
            f"Received: an array of dtype {array.dtype}"
        )


def _is_string_tensor(array):
    # The one kind of objects, and the one backend, that Keras converts.
    objects = array.dtype.kind == "O" and isinstance(array.flat[0], str)
    return objects and keras.config.backend() == "tensorflow"
