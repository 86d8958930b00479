import keras
import numpy as np
from keras import ops

from keras_mimo._keras import get_loss
from keras_mimo.losses.class_count_loss import ClassCountLoss


class ClassIdCheck(keras.losses.Loss):
    """Checks the labels of one output, in the place of its losses.

    Args:
        losses: List of losses that apply to the output.
        output: Name of the output, or `None` where it is not known.
        allowed: Collection of numbers that are no classes by intention.
    """

    def __init__(self, losses, output, allowed):
        super().__init__(reduction=None)
        self._losses = losses
        self._where = f" of the output {output!r}" if output else ""
        self._allowed = allowed

    def __call__(self, y_true, y_pred, sample_weight=None):
        for loss in self._losses if hasattr(y_true, "shape") else []:
            loss = get_loss(loss, y_true, y_pred)
            if _takes_class_ids(loss):
                axis = getattr(loss, "_fn_kwargs", {}).get("axis", -1)
                check_class_ids(
                    y_true, y_pred.shape[axis], self._allowed, self._where
                )
        return ops.zeros(())


def check_class_ids(y, num_classes, allowed=(), where="", floats=True):
    """Raises `ValueError` if an array holds what is no class.

    Args:
        y: Array of class ids. What is no array, or is one-hot, passes.
        num_classes: Positive integer, or `None` if that is not known.
        allowed: Collection of numbers that are no classes by intention.
        where: String, whose labels they are.
        floats: Boolean, whether floats must be class ids too.
    """
    if num_classes is None or not hasattr(y, "shape"):
        return
    y = ops.convert_to_numpy(y)
    one_hot = y.ndim > 1 and y.shape[-1] == num_classes > 1
    if one_hot or not (floats or np.issubdtype(y.dtype, np.integer)):
        return
    known = (y >= 0) & (y < num_classes) & (y == np.round(y))
    for label in allowed:
        known |= np.isnan(y) if np.isnan(label) else y == label
    if not known.all():
        wrong = np.unique(y[~known])[:10].tolist()
        raise ValueError(
            f"Labels{where} must be class ids from 0 to {num_classes - 1}. "
            f"Received: {wrong}"
        )


def _takes_class_ids(loss):
    function = getattr(loss, "fn", None)
    sparse = function is keras.losses.sparse_categorical_crossentropy
    return sparse or isinstance(loss, ClassCountLoss)
