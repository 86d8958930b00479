import collections
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.fusion.arguments import check_modalities
from keras_mimo.fusion.arguments import check_one_output
from keras_mimo.fusion.input_parts import input_parts
from keras_mimo.fusion.missing import any_present
from keras_mimo.fusion.missing import check_missing
from keras_mimo.fusion.missing import mask_like
from keras_mimo.fusion.missing import present_samples
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.layers.absent_input import AbsentInput
from keras_mimo.layers.absent_input import is_finite_number
from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.utils._keras import Functional
from keras_mimo.utils.structures import map_with_path

OBJECTIVES = ("alone", "lost")


def mask_modalities(
    model,
    modalities=None,
    absent="zeros",
    objectives="alone",
    data=None,
    missing=None,
    name=None,
):
    """Gives any model an output for each modality: itself, without the others.

    For models in which modalities meet early and no layer is one modality's
    own. The outputs are a dict: `"fused"` is `model` on all inputs; that of a
    modality is the same network, with the same weights, on inputs in which
    every other modality is absent. To train it is to train `model`, which keeps
    its layers.

    A training step calls `model` once for each output. (So the moving averages
    of a `BatchNormalization` are of inputs with and without a modality, where
    what is served has all.) What `keras_mimo.inference_model()` and `export()`
    make calls it once.

    Args:
        model: A functional model with one output, or a `keras.Sequential` that
            starts with `keras.Input`.
        modalities: Dict from the name of a modality (ASCII letters, digits and
            underscores, a letter first, not `"fused"`) to what is absent with
            it: the name of an input, or a pair of that name and a slice of its
            last axis, for sensors that are channels of one input; or a list of
            these. At least two. What belongs to no modality is never absent.
            Defaults to `None`: each input is a modality, by its name.
        absent: What an absent input is: `"zeros"`; a number; `"mean"`, the mean
            of `data`, for each entry; or `"learnt"`, a trainable tensor of the
            shape of a sample (zeros at first), which only inputs of floats of a
            known shape can have, as `"mean"`. Or a dict from the names of
            inputs to these, zeros for the others. Defaults to `"zeros"`, no
            worse than the others in `benchmarks/absent_inputs.py`.
        objectives: `"alone"`: one output per modality, called as it is, in
            which all others are absent. `"lost"`: one per modality in which it
            alone is absent, called `without_<modality>`. (Of two modalities
            these are the same outputs under other names.)
            Defaults to `"alone"`.
        data: For `"mean"`: the inputs of training, as `fit(x)` takes them, or
            an iterable of batches `(x, ...)`.
        missing: What stands for a modality that a sample lacks, as in
            `keras_mimo.late_fusion()`; a function gets the part of the inputs
            that is the modality, or a list of its parts. The modality is then
            absent, as in the outputs of the others, and the sample has no part
            in outputs for which nothing is left. Defaults to `None`: every
            sample has all modalities.
        name: Optional name of the result.

    Returns:
        A functional `MultimodalModel`, with the inputs of `model`.

    Raises:
        TypeError: If `modalities`, `absent` or `missing` is of the wrong type.
        ValueError: If `model` has not one output or not known inputs; if there
            are fewer than two modalities, or a name can't be used; if an input
            or its channels are not there, or belong to two modalities; if
            `absent`, `objectives`, `data` or `missing` is invalid or does not
            fit; or if
            the output is not finite where a modality is absent, as the average
            of a sequence is if all of its steps are masked.

    Example:

    ```python
    accel = keras.Input((100, 3), name="accel")
    gyro = keras.Input((100, 3), name="gyro")
    x = keras.layers.Concatenate()([accel, gyro])
    x = keras.layers.Conv1D(32, 5, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling1D()(x)
    model = keras.Model([accel, gyro], keras.layers.Dense(7)(x))

    balanced = keras_mimo.mask_modalities(model)
    balanced.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )

    # The same sensors as channels of one input, (100, 6):
    balanced = keras_mimo.mask_modalities(
        one_input_model,
        {"accel": ("x", slice(0, 3)), "gyro": ("x", slice(3, 6))},
    )
    ```
    """
    structure = _inputs(model)
    check_one_output(model)
    inputs = {x.name: x for x in model.inputs}
    if modalities is None:
        modalities = {input_name: input_name for input_name in inputs}
    check_modalities("modalities", modalities, "their inputs")
    parts = input_parts(modalities, inputs)
    if objectives not in OBJECTIVES:
        raise ValueError(
            f"`objectives` must be one of {OBJECTIVES}. "
            f"Received: objectives={objectives!r}"
        )
    kinds = _kinds(absent, inputs)
    layers = _absent_layers(parts, kinds, inputs)
    missing = check_missing(missing, list(modalities))
    present = _present(parts, inputs, missing)
    _adapt(layers, inputs, present, data)

    known = dict(inputs)
    for modality, flags in present.items():
        for input_name, layer in layers[modality]:
            x = known[input_name]
            known[input_name] = ops.where(mask_like(flags, x), x, layer(x))

    def without(output, lost):
        """The output of the network where some modalities are absent."""
        given = dict(known)
        for modality in lost:
            for input_name, layer in layers[modality]:
                given[input_name] = layer(given[input_name])
        y = model(map_with_path(lambda path, x: given[x.name], structure))
        (y,) = tree.flatten(y)
        left = [modality for modality in modalities if modality not in lost]
        if not all(modality in present for modality in left):
            return y
        _check_rows(y)
        keep = KeepPresent(dtype=y.dtype, name=f"{output}_present")
        return keep([y, any_present([present[m] for m in left])])

    outputs = {"fused": without("fused", [])}
    for modality in modalities:
        if objectives == "lost":
            output, lost = f"without_{modality}", [modality]
        else:
            output, lost = modality, [m for m in modalities if m != modality]
        outputs[output] = without(output, lost)
    masked = MultimodalModel(structure, outputs, name=name)
    _check_finite(masked)
    return masked


def _inputs(model):
    """The symbolic inputs of a model, in their structure."""
    if isinstance(model, Functional):
        return model.input
    if isinstance(model, keras.Sequential) and model.built:
        return model.inputs[0]
    raise ValueError(
        "`model` must be a functional model, one that was made by "
        "`keras.Model(inputs, outputs)`, or a `keras.Sequential` that starts "
        f"with `keras.Input`. Received: model={model} of type {type(model)}"
    )


def _kinds(absent, inputs):
    """What each input is when it is absent, by its name."""
    given = absent
    if not isinstance(absent, dict):
        given = {input_name: absent for input_name in inputs}
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise ValueError(
            f"`absent` must be a dict from inputs of `model`, {list(inputs)}. "
            f"Received: absent={absent}"
        )
    for value in given.values():
        if value not in ("zeros", "mean", "learnt") and not is_finite_number(
            value
        ):
            raise ValueError(
                '`absent` must be "zeros", "mean", "learnt" or a finite '
                "number, or a dict from inputs to these. "
                f"Received: absent={absent!r}"
            )
    kinds = {
        input_name: given.get(input_name, "zeros") for input_name in inputs
    }
    return {k: 0.0 if kind == "zeros" else kind for k, kind in kinds.items()}


def _absent_layers(parts, kinds, inputs):
    """The layers that make each modality absent, by the inputs they replace."""
    layers = collections.defaultdict(list)
    for modality, input_name, channels in parts:
        kind, x = kinds[input_name], inputs[input_name]
        if isinstance(kind, str) and "float" not in x.dtype:
            raise ValueError(
                f'`absent="{kind}"` is for inputs of floats. Received: the '
                f"input {input_name!r} of dtype {x.dtype}. Give a dict with a "
                "number for it."
            )
        layer_name = f"{modality}_absent"
        if layers[modality]:
            layer_name += f"_{len(layers[modality])}"
        layer = AbsentInput(kind, channels, name=layer_name)
        layers[modality].append((input_name, layer))
    return layers


def _present(parts, inputs, missing):
    """Which samples have each of the modalities that may be missing."""
    present = {}
    for modality, value in missing.items():
        given = []
        for owner, input_name, channels in parts:
            if owner == modality:
                x = inputs[input_name]
                given.append(x[..., slice(*channels)] if channels else x)
        given = given[0] if len(given) == 1 else given
        present[modality] = present_samples(modality, given, value)
    return present


def _check_rows(y):
    if len(y.shape) != 2:
        raise ValueError(
            "`missing` is for a `model` whose output is of shape "
            f"`(batch, width)`. Received: an output of shape {tuple(y.shape)}"
        )


def _adapt(layers, inputs, present, data):
    """Gives the layers of the mean the mean of the samples that are there."""
    wanted = [
        (modality, input_name, layer)
        for modality, pairs in layers.items()
        for input_name, layer in pairs
        if layer.absent == "mean"
    ]
    if bool(wanted) != (data is not None):
        raise ValueError(
            '`data` must be given with `absent="mean"`, and only then. '
            f"Received: data of type {type(data)}"
        )
    if not wanted:
        return
    flags = keras.Model(inputs, present) if present else lambda x: {}
    counts = collections.Counter()
    sums = collections.defaultdict(float)
    for batch in _batches(data):
        arrays = _by_name(batch, inputs)
        there = flags(arrays)
        for modality, input_name, _ in wanted:
            x = arrays[input_name]
            if modality in there:
                x = x[ops.convert_to_numpy(there[modality])]
            counts[modality, input_name] += len(x)
            sums[modality, input_name] += x.sum(axis=0, dtype="float64")
    for modality, input_name, layer in wanted:
        count = counts[modality, input_name]
        if not count:
            raise ValueError(
                "`data` must have samples. "
                f"Received: none with the modality {modality!r}"
            )
        layer.adapt(sums[modality, input_name][None] / count)


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        return (_x(data[index]) for index in range(data.num_batches))
    if isinstance(data, (dict, list, tuple)) or hasattr(data, "shape"):
        return [data]
    if isinstance(data, Iterable):
        return map(_x, data)
    raise ValueError(
        "`data` must be the inputs of training, or batches of them. "
        f"Received: data={data} of type {type(data)}"
    )


def _x(batch):
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def _by_name(x, inputs):
    if not isinstance(x, dict) or not set(inputs) <= set(x):
        leaves = tree.flatten(x)
        if len(leaves) != len(inputs):
            raise ValueError(
                "`data` must have one array for each of the inputs "
                f"{list(inputs)}. Received: {len(leaves)} arrays"
            )
        x = dict(zip(inputs, leaves, strict=True))
    return {k: np.asarray(ops.convert_to_numpy(x[k])) for k in inputs}


def _check_finite(model):
    """Checks that no average is of nothing where a modality is absent."""
    sizes = [size for x in model.inputs for size in x.shape[1:]]
    if None in sizes or not any(map(makes_masks, model._flatten_layers())):
        return
    sample = [np.ones((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    outputs = model(tree.pack_sequence_as(model.input, sample), training=False)
    finite = {k: bool(ops.all(ops.isfinite(x))) for k, x in outputs.items()}
    if finite["fused"] and not all(finite.values()):
        raise ValueError(
            "`absent` must leave something that is not masked: without it the "
            "average of a sequence is not a number. Give another value, such "
            "as the id of an unknown token. Received: a model whose outputs "
            f"{[k for k, ok in finite.items() if not ok]} are not finite"
        )


def makes_masks(layer):
    """Whether a layer masks some of the steps of a sequence."""
    masking = isinstance(layer, keras.layers.Masking)
    return masking or getattr(layer, "mask_zero", False)
