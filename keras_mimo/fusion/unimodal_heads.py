import keras

from keras_mimo.fusion.arguments import check_modalities
from keras_mimo.fusion.arguments import check_one_output
from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.dependencies import last_operation
from keras_mimo.fusion.dependencies import used_inputs
from keras_mimo.fusion.encoded import to_logits
from keras_mimo.fusion.graph import Renamed
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.utils._keras import Functional

POOLING = {
    3: keras.layers.GlobalAveragePooling1D,
    4: keras.layers.GlobalAveragePooling2D,
    5: keras.layers.GlobalAveragePooling3D,
}


def add_unimodal_heads(model, features, head=None, name=None):
    """Gives a fused model one more output for each modality.

    The result has the inputs and the layers of `model`, with their weights,
    names and trainable flags: to train it is to train `model`. Its outputs are
    a dict, `"fused"`, the output of `model`, and one per modality, from a head
    of its own on features of that modality. The heads serve training:
    `keras_mimo.inference_model()` and `export()` leave them out.

    Args:
        model: A functional model with one output, of shape `(batch, width)`.
        features: Dict from the name of a modality (ASCII letters, digits and
            underscores, a letter first, not `"fused"`) to the features that
            its head gets: the name of a layer of `model`, or a symbolic tensor
            computed from inputs of `model`. At least two. Features are of
            shape `(batch, features)`. Sequences and maps, of rank 3 to 5, are
            averaged over all axes but the batch and the channels (by
            `keras.config.image_data_format()`), a sequence over the steps that
            its mask keeps. No two modalities may depend on the same input.
        head: Function of the name of a modality that returns a layer (or model)
            from features, averaged where they are sequences or maps, to an
            output like that of `model`. Defaults to `None`: a
            `keras.layers.Dense` of the width of that output that ends in the
            activation in which `model` ends, so that one loss fits all. (An
            activation is found where the last layer has one or is one:
            `Dense(7, activation="softmax")`, `Softmax()`. Else there is none.)
        name: Name of the model. Defaults to that of `model`.

    Returns:
        A functional `MultimodalModel`. The heads compute in `float32`, whatever
        the dtype policy, and are called `<modality>_head`.

    Raises:
        TypeError: If `features` is no dict, if one of them is neither a string
            nor a symbolic tensor, or if `head` does not return layers.
        ValueError: If `model` is not functional or has not one output of known
            width; if there are fewer than two modalities or a name can't be
            used; if features are those of no layer, have no fixed width, depend
            on no input of `model`, or on one on which another modality depends;
            or if a head does not give outputs like those of `model`.

    Example:

    ```python
    image = keras.Input((32, 32, 3), name="image")
    text = keras.Input((20,), dtype="int32", name="text")
    maps = keras.layers.Conv2D(16, 3, activation="relu", name="maps")(image)
    words = keras.layers.Embedding(1000, 16, mask_zero=True)(text)
    words = keras.layers.LSTM(16, name="words")(words)
    pooled = keras.layers.GlobalMaxPooling2D()(maps)
    joined = keras.layers.Concatenate()([pooled, words])
    outputs = keras.layers.Dense(7, activation="softmax")(joined)
    model = keras.Model([image, text], outputs)

    balanced = keras_mimo.add_unimodal_heads(
        model, {"image": "maps", "text": "words"}
    )
    balanced.compile(
        "adam", "sparse_categorical_crossentropy", combiner="mimo"
    )
    ```
    """
    if not isinstance(model, Functional):
        raise ValueError(
            "`model` must be a functional model, one that was made by "
            "`keras.Model(inputs, outputs)`. "
            f"Received: model={model} of type {type(model)}"
        )
    check_one_output(model)
    fused = model.outputs[0]
    width = _width(fused)
    check_modalities(
        "features", features, "names of layers or symbolic tensors"
    )
    tensors = {
        modality: _tensor(model, modality, feature)
        for modality, feature in features.items()
    }
    _check_inputs(model, tensors)

    taken = {operation.name for operation in model.operations}
    renamed = Renamed()
    activation = last_activation(fused)

    def free(layer_name):
        while layer_name in taken:
            layer_name += "_"
        return layer_name

    def output(modality, x):
        x = _pooled(modality, x, free(f"{modality}_pooling"))
        layer_name = free(f"{modality}_head")
        return to_logits(
            modality, layer_name, x, width, head, renamed, activation
        )

    unimodal = {name: output(name, x) for name, x in tensors.items()}
    return MultimodalModel(
        model.input, {"fused": fused, **unimodal}, name=name or model.name
    )


def _tensor(model, modality, feature):
    """The symbolic tensor of the features of a modality."""
    if isinstance(feature, keras.KerasTensor):
        return feature
    if not isinstance(feature, str):
        raise TypeError(
            "`features` must hold names of layers or symbolic tensors. "
            f"Received: features[{modality!r}]={feature} "
            f"of type {type(feature)}"
        )
    nodes = calls(model.outputs)
    found = [
        tensor
        for node in nodes
        if node.operation.name == feature
        for tensor in node.outputs
    ]
    if len(found) == 1:
        return found[0]
    received = f"Received: features[{modality!r}]={feature!r}"
    if found:
        raise ValueError(
            "The layers in `features` must have one output each: pass the "
            f"tensor. {received}, a layer that has {len(found)} (or is called "
            "several times)"
        )
    for outer in model.layers:
        inner = getattr(outer, "_flatten_layers", list)()
        if any(layer.name == feature for layer in inner):
            raise ValueError(
                f"The layers in `features` must be layers of `model` itself. "
                f"{received}, which is inside the layer {outer.name!r}, out of "
                f"reach: name {outer.name!r}, or build `model` from its layers"
            )
    raise ValueError(
        f"`features` must name layers of `model`. {received}. Its layers are "
        f"{[layer.name for layer in model.layers]}"
    )


def _check_inputs(model, tensors):
    """Checks that no two modalities depend on the same input."""
    used = {}
    for modality, tensor in tensors.items():
        names = used_inputs(tensor, model.inputs)
        if names is None:
            raise ValueError(
                "`features` must hold tensors that are computed from inputs of "
                f"`model` ({[x.name for x in model.inputs]}) and from nothing "
                f"else. Received: features[{modality!r}]={tensor}"
            )
        for other, others in used.items():
            if set(names) & set(others):
                raise ValueError(
                    "`features` must depend on no common input: the head of a "
                    "modality would see another one. Received: "
                    f"features[{other!r}], which depends on the inputs "
                    f"{others}, and features[{modality!r}], on {names}"
                )
        used[modality] = names


def _width(fused):
    shape = tuple(fused.shape)
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "`model` must have an output of shape `(batch, width)`, with a "
            f"known width. Received: a model with an output of shape {shape}"
        )
    return shape[1]


def _pooled(modality, x, layer_name):
    rank = len(x.shape)
    pooled = x
    if rank in POOLING:
        pooling = POOLING[rank](dtype=keras.config.floatx(), name=layer_name)
        pooled = pooling(x)
    if len(pooled.shape) != 2 or pooled.shape[1] is None:
        raise ValueError(
            "`features` must be of shape `(batch, features)`, or sequences or "
            "maps of rank 3 to 5, with a known number of features. Received: "
            f"features[{modality!r}] of shape {tuple(x.shape)}"
        )
    return pooled


def last_activation(tensor):
    """The activation in which a model ends, or `None`."""
    operation = last_operation(tensor)
    # Of `keras.ops`, or a layer of the same name.
    kind = type(operation).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        return kind
    return getattr(operation, "activation", None)
