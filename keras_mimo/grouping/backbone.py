import keras

from keras_mimo._keras import Functional
from keras_mimo.balanced_variables import check_balanced_variables
from keras_mimo.balanced_variables import resolve_balanced_variables


def gradient_variables(model, variables=None):
    """The variables over which class gradients are compared.

    Args:
        model: A built model.
        variables: As in `BalancedModel.compile(balanced_variables=...)`.
            Defaults to all trainable variables of the model apart from those of
            the classifier head: the last layer that has weights, at each
            output.

    Returns:
        List of variables.

    Raises:
        ValueError: If the model is not built, if `variables` does not fit it,
            or if its head can't be told.
    """
    if not model.built:
        raise ValueError(
            "`model` must be built: call it on a batch first. "
            f"Received: model={model}"
        )
    check_balanced_variables(variables)
    if variables is not None:
        chosen, _ = resolve_balanced_variables(variables, model)
        return [model.trainable_weights[index] for index in chosen]
    head = {id(v) for layer in _heads(model) for v in layer.weights}
    trainable = {id(v) for v in model.trainable_weights}
    # Not `trainable_weights`, which has those of a combiner too.
    backbone = [
        v for v in model.weights if id(v) in trainable and id(v) not in head
    ]
    if not backbone:
        raise ValueError(
            "`variables` must be given for a model without trainable variables "
            f"before its last layer. Received: model={model}"
        )
    return backbone


def _heads(model):
    if not isinstance(model, (Functional, keras.Sequential)):
        raise ValueError(
            "`variables` must be given for a model that is not functional, for "
            "the order of its layers is not known: those without the "
            f"classifier head. Received: model={model}"
        )
    heads = []
    for output in model.outputs:
        found = _last_layers(output)
        if len(found) != 1:
            raise ValueError(
                "`variables` must be given for a model in which not one layer "
                "alone computes the output. Received: an output of "
                f"{[layer.name for layer in found]}"
            )
        heads += found
    return heads


def _last_layers(tensor):
    """The layers with weights that are next to a symbolic tensor."""
    history = tensor._keras_history
    layer = history.operation
    if getattr(layer, "weights", []):
        if isinstance(layer, (Functional, keras.Sequential)):
            return _heads(layer)
        return [layer]
    node = layer._inbound_nodes[history.node_index]
    found = []
    for parent in node.input_tensors:
        found += [x for x in _last_layers(parent) if x not in found]
    return found
