import numbers
import re

import keras
from keras import tree

from keras_mimo.fusion.graph import Renamed
from keras_mimo.fusion.graph import encoder_inputs
from keras_mimo.fusion.graph import is_shape
from keras_mimo.fusion.multimodal_model import MultimodalModel


def late_fusion(encoders, num_classes, fusion="sum", head=None, name=None):
    """Builds a model that encodes each modality and fuses at the end.

    The model takes a dict of inputs, one per modality, and returns a dict of
    logits, `"fused"` and one per modality, each of shape
    `(batch, num_classes)`. There is no activation at the end, so that losses
    need `from_logits=True`. For regression, `num_classes` is the number of
    values to predict; for multi-label classification, that of labels.

    Logits are `float32` under a mixed precision policy.

    The layers on the way are called `<modality>_encoder` and
    `<modality>_head`, whatever names the encoders have of their own.

    Args:
        encoders: Dict from the name of a modality (ASCII letters, digits and
            underscores, a letter first, not `"fused"`) to a Keras model or
            layer that turns it into features of shape `(batch, features)`. At
            least two. Encoders keep the weights they have. They must know the
            shape of their input: a functional model does, and so does a
            `keras.Sequential` that starts with `keras.Input`. The input of a
            functional model may be a dict or a list of tensors; the modality's
            input then has the same structure. The same encoder under two names
            is shared.
        num_classes: Positive integer, the width of the logits.
        fusion: `"sum"`: the fused logits are the sum of the logits of the
            modalities. `"concat"`: the fused logits have a head of their own,
            on the concatenated features. Defaults to `"sum"`.
        head: Function of the name of an output that returns a layer (or model)
            from features to logits. Sum fusion asks for the modalities, concat
            fusion for `"fused"` too. Defaults to `None`:
            `keras.layers.Dense(num_classes)` for all.
        name: Optional name of the model.

    Returns:
        A functional `MultimodalModel`.

    Raises:
        TypeError: If `encoders` is no dict, or if an encoder or what `head`
            returns is no Keras layer.
        ValueError: If `encoders` has fewer than two entries or a name that
            can't be used, if an encoder has no known input shape or does not
            give features of shape `(batch, features)`, if a head does not give
            `(batch, num_classes)`, or if `fusion` or `num_classes` is invalid.

    Example:

    ```python
    def encoder(filters):
        return keras.Sequential(
            [
                keras.Input((128, 3)),
                keras.layers.Conv1D(filters, 9, activation="relu"),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )

    model = keras_mimo.late_fusion(
        {"accel": encoder(32), "gyro": encoder(32)}, num_classes=7
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    model.fit({"accel": accel, "gyro": gyro}, y)
    ```
    """
    _check_encoders(encoders)
    _check_width(num_classes)
    if fusion not in ("sum", "concat"):
        raise ValueError(
            '`fusion` must be one of "sum" and "concat". '
            f"Received: fusion={fusion!r}"
        )

    # Keras layers refuse the integers of NumPy, such as `max(y) + 1`.
    num_classes = int(num_classes)
    renamed = Renamed()
    inputs = {}
    features = {}
    for modality, encoder in encoders.items():
        inputs[modality] = encoder_inputs(modality, encoder)
        features[modality] = renamed(
            f"{modality}_encoder", encoder, inputs[modality]
        )
        _check_features(modality, features[modality])

    def logits(output, layer_name, x):
        # A loss computed in float16 would overflow.
        dtype = keras.config.floatx()
        if head is None:
            layer = keras.layers.Dense(
                num_classes, dtype=dtype, name=layer_name
            )
            return layer(x)
        y = renamed(layer_name, _layer_of(head, output), x)
        _check_logits(output, y, num_classes)
        if y.dtype == dtype:
            return y
        return keras.layers.Activation(
            "linear", dtype=dtype, name=f"{layer_name}_{dtype}"
        )(y)

    unimodal = {
        modality: logits(modality, f"{modality}_head", x)
        for modality, x in features.items()
    }
    if fusion == "sum":
        add = keras.layers.Add(dtype=keras.config.floatx(), name="fused")
        fused = add(list(unimodal.values()))
    else:
        concatenate = keras.layers.Concatenate(name="fused_features")
        joined = concatenate(list(features.values()))
        fused = logits("fused", "fused", joined)
    return MultimodalModel(inputs, {"fused": fused, **unimodal}, name=name)


def _layer_of(head, output):
    # A layer is callable too, but what it returns is a tensor.
    if isinstance(head, keras.Layer) or not callable(head):
        raise TypeError(
            "`head` must be a function of the name of an output that returns a "
            f"Keras layer. Received: head={head} of type {type(head)}"
        )
    layer = head(output)
    if not isinstance(layer, keras.Layer):
        raise TypeError(
            "`head` must be a function of the name of an output that returns a "
            f"Keras layer. Received: head={head}, which returned {layer!r} for "
            f"the output {output!r}"
        )
    return layer


def _check_encoders(encoders):
    if not isinstance(encoders, dict):
        raise TypeError(
            "`encoders` must be a dict from the names of the modalities to "
            f"their encoders. Received: encoders={encoders} "
            f"of type {type(encoders)}"
        )
    if len(encoders) < 2:
        raise ValueError(
            "`encoders` must have at least two modalities to fuse. "
            f"Received: encoders={encoders}"
        )
    for modality, encoder in encoders.items():
        if not isinstance(modality, str) or not re.fullmatch(
            "[A-Za-z][A-Za-z0-9_]*", modality
        ):
            raise ValueError(
                "The keys of `encoders` must be strings of ASCII letters, "
                "digits and underscores, with a letter first. "
                f"Received: {modality!r}"
            )
        if modality == "fused":
            raise ValueError(
                'No modality can be called "fused": that is the name of the '
                f"fused output. Received: encoders={encoders}"
            )
        if not isinstance(encoder, keras.Layer):
            raise TypeError(
                "The values of `encoders` must be Keras models or layers. "
                f"Received: encoders[{modality!r}]={encoder} "
                f"of type {type(encoder)}"
            )


def _check_width(num_classes):
    valid = isinstance(num_classes, numbers.Integral)
    if not valid or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(
            "`num_classes` must be a positive integer. "
            f"Received: num_classes={num_classes!r}"
        )


def _check_features(modality, features):
    shape = tree.map_structure(lambda x: x.shape, features)
    if not is_shape(shape) or len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "An encoder must return features of shape `(batch, features)`. "
            "End it with a `GlobalAveragePooling` or a `Flatten` layer. "
            f"Received: encoders[{modality!r}], which returns {shape}"
        )


def _check_logits(output, logits, num_classes):
    shape = tree.map_structure(lambda x: x.shape, logits)
    if shape != (None, num_classes):
        raise ValueError(
            f"`head` must return a layer to {num_classes} logits, of shape "
            f"{(None, num_classes)}. "
            f"Received: a layer to {shape} for the output {output!r}"
        )
