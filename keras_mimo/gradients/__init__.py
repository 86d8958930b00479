import importlib

import keras

from keras_mimo.gradients.balanced import block_rows
from keras_mimo.gradients.balanced import representation_rows
from keras_mimo.gradients.balanced import update_gradients
from keras_mimo.gradients.balanced import weighted_blocks

__all__ = [
    "block_rows",
    "engine",
    "representation_rows",
    "small",
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
    return importlib.import_module(f"keras_mimo.gradients.{name}")


def small(function, tensors):
    """Calls a function of small tensors where it takes the least time.

    Args:
        function: Function that is written in `keras_mimo.solvers.ops`, keeps
            no state and returns a tensor or a list of tensors.
        tensors: List of its arguments, each a tensor or `None`.
    """
    if keras.backend.backend() == "torch":
        return engine().small(function, tensors)
    return function(*tensors)
