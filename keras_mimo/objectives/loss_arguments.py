import math
import numbers

import keras
import numpy as np
from keras import tree


def check_loss(loss):
    """Raises `ValueError` where the `loss` of `compile()` holds no losses."""
    _check_keys("loss", loss)
    leaves = [leaf for leaf in tree.flatten(loss) if leaf is not None]
    if not leaves:
        raise ValueError(
            f"`loss` must be given where a `combiner` is. Received: loss={loss}"
        )
    for leaf in leaves:
        # Which cross-entropy is meant, Keras tells from the labels.
        if str(leaf).lower() in ("crossentropy", "ce"):
            continue
        try:
            keras.losses.get(leaf)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`loss` must hold names of losses, `keras.losses.Loss` "
                f"instances or functions. Received: {leaf!r}"
            ) from error


def check_loss_weights(loss_weights):
    """Raises `TypeError` or `ValueError` unless they are finite numbers."""
    _check_keys("loss_weights", loss_weights)
    for weight in tree.flatten(loss_weights):
        if isinstance(weight, np.ndarray) and weight.ndim == 0:
            weight = weight.item()
        # What is no Python number may be a variable that a callback changes.
        scalar = getattr(weight, "shape", None) == ()
        number = isinstance(weight, numbers.Real) and type(weight) is not bool
        if not (weight is None or scalar or number):
            raise TypeError(
                "`loss_weights` must be a number, or a list or dict of them. "
                f"Received: {weight!r} of type {type(weight)}"
            )
        if number and not math.isfinite(weight):
            raise ValueError(
                "`loss_weights` must be finite. "
                f"Received: loss_weights={loss_weights}"
            )


def _check_keys(argument, value):
    if isinstance(value, dict):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise TypeError(
                f"`{argument}` must have names of outputs as its keys. "
                f"Received: {wrong}"
            )
        value = list(value.values())
    for item in value if isinstance(value, (list, tuple)) else []:
        _check_keys(argument, item)
