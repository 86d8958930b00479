import math

import keras
import numpy as np
from keras import losses
from keras import tree

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.objectives.missing_labels import missing_values
from keras_mimo.utils._keras import loss_options

_LOSSES = {
    "classification": (
        losses.sparse_categorical_crossentropy,
        losses.categorical_crossentropy,
        losses.categorical_focal_crossentropy,
    ),
    "multilabel": (
        losses.binary_crossentropy,
        losses.binary_focal_crossentropy,
    ),
    "regression": (
        losses.mean_squared_error,
        losses.mean_absolute_error,
        losses.mean_absolute_percentage_error,
        losses.mean_squared_logarithmic_error,
        losses.huber,
        losses.log_cosh,
    ),
}


def check_task(task, model):
    """What a model predicts: as given, or by the loss of its fused output."""
    if task is not None:
        if task not in _LOSSES:
            raise ValueError(
                f"`task` must be one of {list(_LOSSES)}, or None. "
                f"Received: task={task!r}"
            )
        return task
    tasks = {_task(loss) for loss in _fused_losses(model)}
    if len(tasks) != 1 or None in tasks:
        compiled = model.compiled and model._compile_arguments["loss"]
        raise ValueError(
            f"`task` must be given, one of {list(_LOSSES)}, where the loss of "
            "the fused output does not tell. Received: task=None for a model "
            + (f"with loss={compiled}" if compiled else "without a loss")
        )
    return tasks.pop()


def targets(task, y, width, missing):
    """Labels in the shape of the outputs.

    Args:
        task: What `check_task()` returned.
        y: Array of labels.
        width: Integer, the width of the outputs.
        missing: Collection of numbers that stand for a missing label.

    Returns:
        Tuple of an array of shape `(samples, width)`, and of which samples have
        no label.

    Raises:
        ValueError: If labels don't fit.
    """
    y = y.reshape(len(y), -1)
    absent = np.zeros(len(y), dtype=bool)
    for label in missing:
        missed = np.isnan(y) if math.isnan(label) else y == label
        absent |= missed.any(axis=1)
    y = np.where(absent[:, None], 0, y)
    if task == "classification" and width == 1:
        raise ValueError(
            '`task` must be "multilabel", or "regression", where outputs have '
            f"a width of 1. Received: task={task!r}"
        )
    if task == "classification" and y.shape[1] == 1:
        return _one_hot(y[:, 0], width), absent
    if y.shape[1] != width:
        raise ValueError(
            f"Labels must fit outputs of width {width}. Received: y of width "
            f"{y.shape[1]}, for task={task!r}"
        )
    y = y.astype("float64")
    if not np.isfinite(y).all():
        raise ValueError("`y` must be finite. Received: y with NaN or infinity")
    if task == "regression":
        return y, absent
    if y.min() < 0 or y.max() > 1:
        raise ValueError(
            f"Labels must be from 0 to 1 for task={task!r}. "
            f"Received: labels from {y.min()} to {y.max()}"
        )
    sums = y.sum(axis=1)[~absent]
    if task == "classification" and not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(
            "The rows of one-hot labels must have the sum 1. "
            f"Received: sums from {sums.min()} to {sums.max()}"
        )
    return y, absent


def check_logits(task, fused):
    """Raises `ValueError` where what should be logits is probabilities."""
    if are_probabilities(task, fused):
        raise ValueError(
            "The outputs of `model` must be logits: leave out the activation "
            "at the end, and compile with `from_logits=True`. Received: "
            "outputs that are probabilities"
        )


def are_probabilities(task, outputs):
    """Whether what could be logits is probabilities."""
    if task == "regression" or not outputs.any():
        return False
    within = outputs.min() >= 0 and outputs.max() <= 1
    if task == "classification":
        within = within and np.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    return bool(within)


def missing_labels(model):
    """Numbers by which a compiled model knows that a label is missing."""
    if model.objectives is None:
        missing = set()
    else:
        missing = missing_values(model.objectives.missing_label)
    for loss in _fused_losses(model):
        ignored = loss_options(loss).get("ignore_class")
        missing |= set() if ignored is None else {ignored}
    return missing


def _fused_losses(model):
    if not model.compiled:
        return []
    loss = model._compile_arguments["loss"]
    if isinstance(loss, list) and any(isinstance(i, dict) for i in loss):
        # The others are losses of all outputs together.
        loss = [item.get("fused") for item in loss if isinstance(item, dict)]
    elif isinstance(loss, dict):
        loss = loss.get("fused")
    return [leaf for leaf in tree.flatten(loss) if leaf is not None]


def _task(loss):
    if str(loss).lower() in ("crossentropy", "ce"):
        return "classification"
    if isinstance(loss, ClassCountLoss):
        return "classification"
    loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    for task, functions in _LOSSES.items():
        if function in functions:
            return task
    return None


def _one_hot(ids, num_classes):
    with np.errstate(invalid="ignore"):
        known = (ids >= 0) & (ids < num_classes) & (ids % 1 == 0)
    if not known.all():
        raise ValueError(
            f"Labels must be class ids from 0 to {num_classes - 1}. "
            f"Received: {np.unique(ids[~known])[:10].tolist()}"
        )
    one_hot = np.zeros((len(ids), num_classes))
    one_hot[np.arange(len(ids)), ids.astype(int)] = 1
    return one_hot
