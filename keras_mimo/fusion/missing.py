"""Samples that lack a modality."""

import math
import numbers

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.utils.structures import map_with_path


def check_missing(missing, modalities):
    """The `missing` argument as a dict.

    Args:
        missing: As in `late_fusion()`.
        modalities: List of the names of modalities.

    Raises:
        TypeError: If it is no such thing.
        ValueError: If it names a modality that is none.
    """
    if missing is None:
        return {}
    if missing is True:
        return dict.fromkeys(modalities)
    if not isinstance(missing, dict):
        raise TypeError(
            "`missing` must be a dict from the names of modalities to what "
            "stands for a missing one, or True. "
            f"Received: missing={missing} of type {type(missing)}"
        )
    unknown = [name for name in missing if name not in modalities]
    if unknown:
        raise ValueError(
            f"`missing` must name modalities, which are {list(modalities)}. "
            f"Received: {unknown}"
        )
    for name, value in missing.items():
        number = isinstance(value, numbers.Real) and type(value) is not bool
        if not (value is None or number or callable(value)):
            raise TypeError(
                "The values of `missing` must be numbers, None for NaN, or "
                "functions of the input. "
                f"Received: missing[{name!r}]={value!r} of type {type(value)}"
            )
    return dict(missing)


def split_missing(modality, inputs, value):
    """Which samples have a modality, and inputs that are safe to encode.

    Gradients through what is not finite would be NaN even where the result is
    not used, so that the inputs of samples without the modality are replaced.

    Args:
        modality: Name of the modality.
        inputs: Structure of symbolic tensors.
        value: What `missing` says of the modality.

    Returns:
        Boolean symbolic tensor of shape `(batch,)`, and a structure like
        `inputs`.
    """
    present = present_samples(modality, inputs, value)

    def replace(_, x):
        return ops.where(mask_like(present, x), x, _filler(x, value))

    return present, map_with_path(replace, inputs)


def present_samples(modality, inputs, value):
    """Which samples have a modality: the first result of `split_missing()`."""
    if not callable(value):
        value = math.nan if value is None else value
        return ops.logical_not(_all_absent(modality, inputs, value))
    absent = value(inputs)
    shape = tuple(getattr(absent, "shape", ()))
    if len(shape) != 1 or keras.backend.is_float_dtype(absent.dtype):
        raise ValueError(
            "A function in `missing` must return a boolean tensor of shape "
            "`(batch,)`, true where the sample lacks the modality. "
            f"Received: missing[{modality!r}], which returned {absent}"
        )
    return ops.logical_not(ops.cast(absent, "bool"))


def any_present(present):
    """Which samples have any of some modalities.

    Args:
        present: List of boolean tensors of shape `(batch,)`.
    """
    first, *others = present
    for flags in others:
        first = ops.logical_or(first, flags)
    return first


def mask_like(mask, x):
    """A mask of samples that broadcasts to the rank of `x`."""
    return ops.reshape(mask, (-1, *[1] * (len(x.shape) - 1)))


def _all_absent(modality, inputs, value):
    leaves = [_absent(modality, x, value) for x in tree.flatten(inputs)]
    absent = leaves[0]
    for leaf in leaves[1:]:
        absent = ops.logical_and(absent, leaf)
    return absent


def _absent(modality, x, value):
    if not math.isnan(value):
        return _all_entries(ops.equal(x, value))
    if not keras.backend.is_float_dtype(x.dtype):
        raise ValueError(
            "`missing` must be a number where the input of a modality holds "
            f"integers, which can't be NaN. Received: missing[{modality!r}]="
            f"{value} for the input {x.name!r} of dtype {x.dtype}"
        )
    return _all_entries(ops.isnan(x))


def _all_entries(flags):
    # Keras 3.12 on PyTorch takes no more than one axis at a time.
    for axis in reversed(range(1, len(flags.shape))):
        flags = ops.all(flags, axis=axis)
    return flags


def _filler(x, value):
    """A number to encode instead, of which the encoder makes no NaN.

    Where 0 stands for what is missing it may also be masked, and the mean over
    what is not masked would be 0 / 0.
    """
    is_float = keras.backend.is_float_dtype(x.dtype)
    # None, like NaN, is not equal to 0.
    return 0.0 if is_float and (callable(value) or value != 0) else 1


def check_samples(model, x):
    """Raises `ValueError` for samples in arrays that lack every modality.

    Args:
        model: A functional model with a dict of outputs.
        x: Arrays; anything else passes.
    """
    leaves = tree.flatten(x)
    if not leaves or not all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return
    present = _presence_model(model)
    if present is None:
        return
    flags = present.predict(x, batch_size=1024, verbose=0)
    lacking = np.flatnonzero(~np.any(flags, axis=0))
    if len(lacking):
        raise ValueError(
            "`x` must hold at least one modality of each sample. Received: "
            f"{len(lacking)} samples without any, such as those at "
            f"{lacking[:5].tolist()}"
        )


def _presence_model(model):
    """A model of which modalities samples have; `None` where they have all."""
    present = []
    for name, output in model.output.items():
        layer = output._keras_history.operation
        if name != "fused":
            if not isinstance(layer, KeepPresent):
                return None
            node = layer._inbound_nodes[output._keras_history.node_index]
            present.append(node.input_tensors[1])
    return keras.Model(model.input, present)
