import math

import keras
import numpy as np

from keras_mimo import gradients
from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.targets import are_one_hot
from keras_mimo.solvers import ops
from keras_mimo.utils._keras import get_loss
from keras_mimo.utils._keras import loss_options


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
        if hasattr(y_true, "shape"):
            num_classes = count_classes(self._losses, y_true, y_pred)
            check_class_ids(y_true, num_classes, self._allowed, self._where)
        return keras.ops.zeros(())


def check_class_ids(y, num_classes, allowed=(), where=""):
    """Raises `ValueError` if an array holds what is no class.

    Args:
        y: Array of class ids. What is no array passes.
        num_classes: Positive integer, or `None` if that is not known.
        allowed: Collection of numbers that are no classes by intention.
        where: String, whose labels they are.
    """
    if num_classes is None or not hasattr(y, "shape"):
        return
    y = keras.ops.convert_to_numpy(y)
    with np.errstate(invalid="ignore"):
        known = _are_classes(y, num_classes, allowed)
    if not known.all():
        wrong = np.unique(y[~known])[:10].tolist()
        raise ValueError(
            f"Labels{where} must be class ids from 0 to {num_classes - 1}. "
            f"Received: {wrong}"
        )


def replace_unknown(y, num_classes, allowed=()):
    """The labels of a batch, class 0 for what is no class, and its number.

    Args:
        y: Tensor of class ids.
        num_classes: Positive integer, or `None` for labels of another kind.
        allowed: Collection of numbers that are no classes by intention.

    Returns:
        Tuple of the labels and a scalar.
    """
    if num_classes is None:
        return y, 0
    y = ops.convert_to_tensor(y)
    dtype = ops.dtype_name(y.dtype)
    is_float = "float" in dtype
    # Narrow integers can't be compared with the number of classes.
    if not is_float and dtype != "int64":
        y = ops.cast(y, "int32")
    if not is_float and gradients.surely_below(y, num_classes):
        return y, 0

    def replace(y):
        known = _are_classes(y, num_classes, allowed)
        if ops.is_numpy() and known.all():
            return None
        unknown = ops.sum(ops.cast(ops.logical_not(known), "int32"))
        # What losses and metrics do out of range depends on the backend.
        if is_float:
            return [ops.where(known, y, ops.zeros_like(y)), unknown]
        # A product is quicker, on PyTorch, than a choice.
        return [y * ops.cast(known, y.dtype), unknown]

    return gradients.small(replace, [y]) or (y, 0)


def count_classes(losses, y_true, y_pred):
    """The number of classes, if one of the losses takes the labels for ids.

    Args:
        losses: List of losses (strings, functions, `keras.losses.Loss`).
        y_true: Labels of an output.
        y_pred: Predictions of the output.

    Returns:
        Positive integer, or `None`.
    """
    for loss in losses:
        if not isinstance(loss, keras.losses.Loss):
            loss = get_loss(loss, y_true, y_pred)
        if _takes_class_ids(loss, y_true, y_pred):
            return y_pred.shape[loss_options(loss).get("axis", -1)]
    return None


def _takes_class_ids(loss, y_true, y_pred):
    if isinstance(loss, ClassCountLoss):
        return not are_one_hot(y_true, y_pred)
    function = getattr(loss, "fn", None)
    return function is keras.losses.sparse_categorical_crossentropy


def _are_classes(y, num_classes, allowed):
    """Which entries of an array or a tensor are class ids, or `allowed`."""
    known = (y >= 0) & (y < num_classes)
    if "float" in ops.dtype_name(y.dtype):
        known = known & (y % 1 == 0)
    for label in allowed:
        known = known | (y != y if math.isnan(label) else y == label)
    return known
