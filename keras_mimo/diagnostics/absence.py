import contextlib
import re

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.dependencies import layer_inputs
from keras_mimo.fusion.dependencies import used_inputs
from keras_mimo.fusion.masked import makes_masks
from keras_mimo.layers.absent_features import AbsentFeatures
from keras_mimo.layers.absent_input import AbsentInput
from keras_mimo.layers.keep_present import KeepPresent


class AbsentModalities:
    """The fused output of a model where any of its modalities are absent.

    Absent is what the model itself calls so: samples that lack the modality
    where it was made with `missing=`; else what replaces the input in a
    `mask_modalities()` model and the features in an `intermediate_fusion()`
    model; and zeros for the input in any other (ones for ids, where zeros are
    masked).

    The model is computed up to the tensors that are replaced, once for a batch,
    and from there on once for each set of modalities.

    Args:
        model: A `MultimodalModel`.

    Attributes:
        modalities: List of names.

    Raises:
        ValueError: If two modalities share an input, so that none of them can
            be absent alone.
    """

    def __init__(self, model):
        self._model = model
        with _nodes_of(model):
            outputs = dict(model.inference_outputs())
            fused = outputs.pop("fused")
            flags = _flags(model)
            # From modalities to pairs of a tensor and what replaces its values.
            self._changes = _changes(model, flags)
            cuts = _cuts(fused, self._changes, model.inputs)
            # They are computed on the way to the fused output, or given.
            self._places = {id(x): place for place, x in enumerate(cuts)}
            self._names = list(outputs)
            self._flagged = list(flags)
            self._encoder = keras.Model(
                model.inputs, [*cuts, *outputs.values(), *flags.values()]
            )
            self._fuse = keras.Model(cuts, fused)
        self.modalities = list(self._changes)

    def encode(self, x):
        """Computes a batch up to what is replaced.

        Args:
            x: Arrays, in the structure of the model's inputs.

        Returns:
            Tuple of a list of arrays; the outputs of the modalities, a dict;
            and a dict from modalities that samples may lack to which samples
            have them.
        """
        found = self._encoder.predict_on_batch(arrays_of(self._model, x))
        found = [np.asarray(array) for array in tree.flatten(found)]
        ends = len(self._places), len(self._places) + len(self._names)
        own = dict(zip(self._names, found[slice(*ends)], strict=True))
        present = dict(zip(self._flagged, found[ends[1] :], strict=True))
        return found[: ends[0]], own, present

    def fuse(self, values, kept):
        """The fused output of a batch where all but some are absent.

        Args:
            values: The list that `encode()` returned.
            kept: Set of the names of the modalities that stay.
        """
        values = list(values)
        for modality, changes in self._changes.items():
            if modality in kept:
                continue
            for tensor, replace in changes:
                place = self._places.get(id(tensor))
                if place is not None:
                    values[place] = _numpy(replace(values[place]))
        return np.asarray(self._fuse.predict_on_batch(values))


def _changes(model, flags):
    masked = _masked(model)
    if not set(masked) <= set(flags):
        return masked
    found = {}
    for modality, output in model.output.items():
        if modality == "fused":
            continue
        features = _features(model, modality)
        if modality in flags:
            found[modality] = [(flags[modality], np.zeros_like)]
        elif features is not None:
            found[modality] = [features]
        else:
            names = frozenset().union(
                *layer_inputs(output, model.inputs).values()
            )
            found[modality] = [
                (x, _filler(model, x)) for x in model.inputs if x.name in names
            ]
    _check_apart(found)
    return found


def _filler(model, x):
    """What makes the values of an absent input."""
    masks = any(map(makes_masks, model._flatten_layers()))
    is_float = keras.backend.is_float_dtype(x.dtype)
    # The mean of a text of which all words are masked is not a number.
    return np.ones_like if masks and not is_float else np.zeros_like


def _flags(model):
    """Which samples have each of the modalities that they may lack."""
    flags = {}
    for name, output in model.output.items():
        history = output._keras_history
        if name != "fused" and isinstance(history.operation, KeepPresent):
            node = history.operation._inbound_nodes[history.node_index]
            flags[name] = node.input_tensors[1]
    return flags


def _masked(model):
    """What replaces the inputs of a `mask_modalities()` model."""
    inputs = {x.name: x for x in model.inputs}
    found = {}
    for layer in model.layers:
        name = re.fullmatch(r"(.*)_absent(_\d+)?", layer.name)
        if isinstance(layer, AbsentInput) and name:
            given = layer._inbound_nodes[0].input_tensors[0]
            (used,) = used_inputs(given, model.inputs)
            found.setdefault(name[1], []).append((inputs[used], layer))
    return found


def _features(model, modality):
    """What replaces the features of a modality, or `None`."""
    for layer in model.layers:
        if layer.name == f"{modality}_absent":
            if isinstance(layer, AbsentFeatures):
                return layer._inbound_nodes[0].input_tensors[0], layer
    return None


def _cuts(fused, changes, inputs):
    """The tensors, replaced or given, that the fused output is made of."""
    ends = {id(x): x for made in changes.values() for x, _ in made}
    ends |= {id(x): x for x in inputs}
    used = {}
    for node in calls([fused], ends):
        for x in node.input_tensors:
            if id(x) in ends:
                used[id(x)] = x
    return list(used.values())


def _check_apart(changes):
    owners = {}
    for modality, made in changes.items():
        if not made:
            raise ValueError(
                "Each modality of `model` must depend on an input, to be "
                f"absent. Received: {modality!r}, which depends on none"
            )
        for x, _ in made:
            other = owners.setdefault(id(x), modality)
            if other != modality:
                raise ValueError(
                    "The modalities of `model` must have inputs of their own, "
                    f"for one to be absent. Received: {other!r} and "
                    f"{modality!r}, whose outputs both depend on {x.name!r}. "
                    "`keras_mimo.mask_modalities()` makes such a model"
                )


@contextlib.contextmanager
def _nodes_of(model):
    """Forgets the calls of layers that are made inside: models keep theirs.

    A layer that was called once has an `output`, after another call no more.
    """
    lengths = [
        (nodes, len(nodes))
        for operation in model.operations
        for nodes in (operation._inbound_nodes, operation._outbound_nodes)
    ]
    histories = [(x, x._keras_history) for x in model.inputs]
    try:
        yield
    finally:
        for nodes, length in lengths:
            del nodes[length:]
        # Keras gives it that of the last call.
        for x, history in histories:
            x._keras_history = history


def arrays_of(model, x):
    """Arrays in the order of `model.inputs`.

    Args:
        model: A functional model.
        x: Arrays, in the structure of its inputs.
    """
    given = _by_input(model.input, x)
    return [given[id(tensor)] for tensor in model.inputs]


def _by_input(structure, x):
    """Dict from the `id()` of symbolic inputs to arrays."""
    if isinstance(structure, dict) and isinstance(x, dict):
        found = {}
        for key, inner in structure.items():
            if key not in x:
                raise ValueError(
                    f"`x` must have the inputs of `model`, {list(structure)}. "
                    f"Received: a dict with {list(x)}"
                )
            found |= _by_input(inner, x[key])
        return found
    if isinstance(structure, (list, tuple)) and isinstance(x, (list, tuple)):
        found = {}
        for inner, values in zip(structure, x, strict=True):
            found |= _by_input(inner, values)
        return found
    leaves = tree.flatten(structure)
    if isinstance(x, dict):
        return {id(leaf): _numpy(x[leaf.name]) for leaf in leaves}
    given = tree.flatten(x)
    if len(given) != len(leaves):
        raise ValueError(
            "`x` must have one array for each input of `model`, of which there "
            f"are {len(leaves)}. Received: {len(given)} arrays"
        )
    return {
        id(leaf): _numpy(values)
        for leaf, values in zip(leaves, given, strict=True)
    }


def _numpy(x):
    return np.asarray(ops.convert_to_numpy(x))
