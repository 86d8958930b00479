import keras

from keras_mimo.utils._keras import Functional


def head_variables(model):
    """The variables of the last layer with weights before each output.

    Args:
        model: A functional or sequential model.

    Returns:
        Set of the `id()` of the variables.

    Raises:
        ValueError: If the model is not functional, or if not one layer alone
            computes an output.
    """
    return {id(v) for layer in _heads(model) for v in layer.weights}


def _heads(model):
    if not isinstance(model, (Functional, keras.Sequential)):
        raise ValueError(
            'The "backbone" of a model that is not functional is not known: '
            "pass its variables. "
            f"Received: model={model}"
        )
    heads = []
    for output in model.outputs:
        found = _last_layers(output)
        if len(found) != 1:
            raise ValueError(
                'The "backbone" of a model in which not one layer alone '
                "computes the output is not known: pass its variables. "
                f"Received: an output of {[layer.name for layer in found]}"
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
