"""What the functions that make a `MultimodalModel` ask of their arguments."""

import numbers
import re

import keras
from keras import tree

from keras_mimo.fusion.graph import is_shape


def layer_of(head, output):
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


def check_encoders(encoders, argument="encoders"):
    check_modalities(argument, encoders, f"their {argument}")
    for modality, encoder in encoders.items():
        if not isinstance(encoder, keras.Layer):
            raise TypeError(
                f"The values of `{argument}` must be Keras models or layers. "
                f"Received: {argument}[{modality!r}]={encoder} "
                f"of type {type(encoder)}"
            )


def check_modalities(argument, given, what):
    """Raises unless `given` is a dict from valid names of modalities."""
    if not isinstance(given, dict):
        raise TypeError(
            f"`{argument}` must be a dict from the names of the modalities to "
            f"{what}. Received: {argument}={given} of type {type(given)}"
        )
    if len(given) < 2:
        raise ValueError(
            f"`{argument}` must have at least two modalities to fuse. "
            f"Received: {argument}={given}"
        )
    for modality in given:
        if not isinstance(modality, str) or not re.fullmatch(
            "[A-Za-z][A-Za-z0-9_]*", modality
        ):
            raise ValueError(
                f"The keys of `{argument}` must be strings of ASCII letters, "
                "digits and underscores, with a letter first. "
                f"Received: {modality!r}"
            )
    if "fused" in given:
        raise ValueError(
            'No modality can be called "fused": that is the name of the '
            f"fused output. Received: {argument}={given}"
        )


def check_one_output(model):
    if len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one output. Of a model with several, "
            "`keras_mimo.inference_model(model, output)` keeps one. "
            f"Received: model={model} with {len(model.outputs)} outputs"
        )


def check_width(num_classes):
    valid = isinstance(num_classes, numbers.Integral)
    if not valid or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(
            "`num_classes` must be a positive integer. "
            f"Received: num_classes={num_classes!r}"
        )


def check_features(modality, features):
    shape = tree.map_structure(lambda x: x.shape, features)
    if not is_shape(shape) or len(shape) != 2 or shape[1] is None:
        raise ValueError(
            "An encoder must return features of shape `(batch, features)`. "
            "End it with a `GlobalAveragePooling` or a `Flatten` layer. "
            f"Received: encoders[{modality!r}], which returns {shape}"
        )


def check_logits(output, logits, num_classes):
    shape = tree.map_structure(lambda x: x.shape, logits)
    if shape != (None, num_classes):
        raise ValueError(
            f"`head` must return a layer to {num_classes} logits, of shape "
            f"{(None, num_classes)}. "
            f"Received: a layer to {shape} for the output {output!r}"
        )
