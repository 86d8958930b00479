import math
import numbers

from keras import ops
from keras import tree

from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import set_keras_mask


def check_missing_label(missing_label):
    """Raises unless it is `None`, a number, or a dict of numbers."""
    for value in missing_values(missing_label):
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(
                "`missing_label` must be a number such as NaN or -1, or a dict "
                "from outputs to numbers. "
                f"Received: missing_label={missing_label}"
            )


def missing_values(missing_label):
    """Set of what stands for a missing label in any of the outputs."""
    if isinstance(missing_label, dict):
        return set(missing_label.values())
    return set() if missing_label is None else {missing_label}


def mask_missing(y, y_pred, missing_label):
    """The labels with 0 for what is missing, and its mask on the predictions.

    A mask, so that losses and metrics are means over the samples that have a
    label, as Keras has it for masks.
    """
    if missing_label is None or y is None:
        return y
    if not isinstance(y_pred, dict):
        if isinstance(missing_label, dict):
            raise ValueError(
                "`missing_label` must be one number where the outputs of the "
                f"model are no dict. Received: missing_label={missing_label}"
            )
        return tree.map_structure_up_to(
            y_pred,
            lambda labels, output: _mask(labels, output, missing_label),
            y,
            y_pred,
        )
    if not isinstance(missing_label, dict):
        missing_label = {name: missing_label for name in y_pred}
    unknown = sorted(set(missing_label) - set(y_pred))
    if unknown:
        raise ValueError(
            "`missing_label` must name outputs of the model, which are "
            f"{list(y_pred)}. Received: {unknown}"
        )
    return {
        name: _mask(labels, y_pred[name], missing_label[name])
        if name in missing_label
        else labels
        for name, labels in y.items()
    }


def _mask(labels, output, missing_label):
    labels = ops.convert_to_tensor(labels)
    if math.isnan(missing_label):
        present = ~ops.isnan(labels)
    else:
        present = labels != missing_label
    mask = present
    if len(labels.shape) == len(output.shape):
        mask = ops.all(mask, axis=-1)
    known = get_keras_mask(output)
    if known is not None:
        known = ops.cast(known, "bool")
        shorter, longer = sorted((mask, known), key=lambda m: len(m.shape))
        for _ in range(len(longer.shape) - len(shorter.shape)):
            shorter = ops.expand_dims(shorter, -1)
        mask = shorter & longer
    set_keras_mask(output, mask)
    return ops.where(present, labels, ops.zeros_like(labels))
