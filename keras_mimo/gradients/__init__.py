import importlib
import sys

import keras
from keras import ops

from keras_mimo.gradients.balanced import block_rows
from keras_mimo.gradients.balanced import gramians_by_part
from keras_mimo.gradients.balanced import representation_rows
from keras_mimo.gradients.balanced import update_gradients
from keras_mimo.gradients.balanced import weighted_blocks

__all__ = [
    "block_rows",
    "engine",
    "gramians_by_part",
    "representation_rows",
    "small",
    "small_scalar",
    "sum_rows",
    "surely",
    "surely_below",
    "update_gradients",
    "weighted_blocks",
]

TRAINING_BACKENDS = ("tensorflow", "jax", "torch")


def engine():
    """The module of this folder that serves the current Keras backend.

    Raises:
        ValueError: If the backend can't train.
    """
    name = keras.backend.backend()
    if name not in TRAINING_BACKENDS:
        raise ValueError(
            "Balanced training needs a backend that can train, one of "
            f"{TRAINING_BACKENDS}. Received: KERAS_BACKEND={name!r}, which is "
            "for inference only."
        )
    path = f"keras_mimo.gradients.{name}"
    # An import that does nothing takes longer than a call of NumPy.
    return sys.modules.get(path) or importlib.import_module(path)


def small(function, tensors):
    """Calls a function of small tensors where it takes the least time.

    Args:
        function: Function that is written in `keras_mimo.solvers.ops`, keeps
            no state and returns a tensor, a list of tensors or `None`.
        tensors: List of its arguments, each a tensor or `None`.
    """
    if keras.backend.backend() == "torch":
        return engine().small(function, tensors)
    return function(*tensors)


def small_scalar(function, losses, active):
    """As `small()`, for a scalar that is descended.

    Args:
        function: Function as in `small()` of the other arguments, that returns
            the gradient of the scalar with respect to the losses, and itself.
        losses: Tensor of shape `(K,)`.
        active: Boolean tensor of shape `(K,)`.

    Returns:
        What the function returns.
    """
    if keras.backend.backend() == "torch":
        return engine().small_scalar(function, losses, active)
    return function(losses, active)


def surely(condition):
    """Whether a boolean scalar is true, and Python can tell without waiting."""
    if keras.backend.backend() == "torch":
        return engine().surely(condition)
    return False


def surely_below(integers, limit):
    """As `surely()`, whether integers are all from 0 to below a limit."""
    if keras.backend.backend() == "torch":
        return engine().surely_below(integers, limit)
    return False


def sum_rows(matrix):
    """The sum over the first axis.

    XLA takes longer on a CPU to reduce rows that it has stacked than to add
    them.
    """
    if keras.backend.backend() != "jax":
        return ops.sum(matrix, axis=0)
    return sum(matrix[k] for k in range(matrix.shape[0]))
