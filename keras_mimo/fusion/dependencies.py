"""What the symbolic tensors of a functional model depend on."""

import keras

from keras_mimo.layers.absent_features import AbsentFeatures
from keras_mimo.layers.absent_input import AbsentInput
from keras_mimo.utils._keras import Functional


def calls(outputs, known=()):
    """The calls of layers that lead to some tensors.

    Args:
        outputs: List of symbolic tensors.
        known: The `id()` of the tensors at which to stop.

    Returns:
        List of the nodes of Keras' graph, in an order of computation.
    """
    done = set(known)
    order = []
    waiting = list(outputs)
    # No recursion: networks are deeper than the stack of Python.
    while waiting:
        tensor = waiting[-1]
        if id(tensor) in done:
            waiting.pop()
            continue
        node = _node(tensor)
        if node is None:
            done.add(id(tensor))
            continue
        before = [x for x in node.input_tensors if id(x) not in done]
        if before:
            waiting += before
            continue
        done.update(map(id, node.outputs))
        order.append(node)
    return order


def used_inputs(tensor, inputs):
    """The names of the inputs of a model on which a tensor depends.

    Args:
        tensor: Symbolic tensor.
        inputs: List of the inputs of the model.

    Returns:
        List of strings, in the order of `inputs`, or `None` if it depends on
        something else too.
    """
    known = {id(x) for x in inputs}
    nodes = calls([tensor], known)
    if any(not node.input_tensors for node in nodes):
        return None
    met = {id(tensor)}.union(*(map(id, n.input_tensors) for n in nodes))
    if _node(tensor) is None or not met & known:
        return None
    return [x.name for x in inputs if id(x) in met]


def used_inputs_of(layer, tensor, inputs):
    """The names of the inputs on which a layer before a tensor depends."""
    return {
        name
        for node in calls([tensor])
        if node.operation is layer
        for given in node.input_tensors
        for name in used_inputs(given, inputs) or ()
    }


def layer_inputs(output, inputs):
    """For each layer on the way to a tensor, the inputs it depends on.

    Functional and sequential models are looked into. What is replaced as absent
    is nothing on which a layer depends.

    Args:
        output: Symbolic tensor.
        inputs: List of the inputs of the model.

    Returns:
        Dict from layers to sets of the names of inputs.
    """
    layers, _ = _dependencies(output, inputs)
    return layers


def tensor_inputs(output, inputs):
    """The inputs that a tensor depends on, as those of `layer_inputs()`.

    Returns:
        Set of the names of inputs.
    """
    _, found = _dependencies(output, inputs)
    return found


def last_operation(tensor):
    """The operation that computes a tensor, in a model within the model too."""
    operation, _, index = tensor._keras_history
    graph = _graph(operation)
    return last_operation(graph[1][index]) if graph else operation


def _dependencies(output, inputs):
    layers = {}
    sources = {id(x): frozenset({x.name}) for x in inputs}
    _spread([output], sources, layers)
    return layers, sources[id(output)]


def _spread(outputs, sources, layers):
    """Completes `sources`, of each tensor, and those of `layers`."""
    for node in calls(outputs, sources):
        given = [sources[id(x)] for x in node.input_tensors]
        graph = _graph(node.operation)
        if graph:
            inner = dict(zip(map(id, graph[0]), given, strict=True))
            _spread(graph[1], inner, layers)
            found = [inner[id(x)] for x in graph[1]]
        else:
            union = frozenset().union(*(() if _is_absent(node) else given))
            before = layers.get(node.operation, frozenset())
            layers[node.operation] = before | union
            found = [union] * len(node.outputs)
        sources.update(zip(map(id, node.outputs), found, strict=True))


def _is_absent(node):
    """Whether what a layer returns says nothing of what it was given."""
    if isinstance(node.operation, AbsentFeatures):
        # With a second tensor, it is absent from some samples.
        return len(node.input_tensors) == 1
    return isinstance(node.operation, AbsentInput)


def _graph(operation):
    """The inputs and outputs of a model within the model."""
    if not isinstance(operation, (Functional, keras.Sequential)):
        return None
    # A sequential model that was never called has none.
    inputs = getattr(operation, "inputs", None)
    return inputs and (inputs, operation.outputs)


def _node(tensor):
    history = getattr(tensor, "_keras_history", None)
    return history and history.operation._inbound_nodes[history.node_index]
