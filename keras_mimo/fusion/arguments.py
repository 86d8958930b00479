"""What the functions that fuse encoders ask of their arguments."""

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


def check_encoders(encoders):
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
