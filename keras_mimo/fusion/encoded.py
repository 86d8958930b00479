from typing import Any
from typing import NamedTuple

import keras

from keras_mimo.fusion.arguments import check_encoders
from keras_mimo.fusion.arguments import check_features
from keras_mimo.fusion.arguments import check_logits
from keras_mimo.fusion.arguments import check_width
from keras_mimo.fusion.arguments import layer_of
from keras_mimo.fusion.graph import Renamed
from keras_mimo.fusion.graph import encoder_inputs
from keras_mimo.fusion.missing import any_present
from keras_mimo.fusion.missing import check_missing
from keras_mimo.fusion.missing import split_missing
from keras_mimo.layers.absent_features import AbsentFeatures
from keras_mimo.layers.keep_present import KeepPresent


class Encoded(NamedTuple):
    """The parts of a model up to the features of its modalities.

    Args:
        inputs: Dict from modalities to structures of symbolic inputs.
        features: Dict from modalities to tensors of shape `(batch, features)`.
        present: Dict from the modalities that samples may lack to boolean
            tensors of shape `(batch,)`.
        renamed: The `Renamed` that called the encoders.
    """

    inputs: dict
    features: dict
    present: dict
    renamed: Any

    def known_features(self, absent):
        """The features, or learnt vectors where samples lack a modality.

        Args:
            absent: Function of a modality that returns its `AbsentFeatures`.
        """
        return {
            modality: absent(modality)(x, present=self.present[modality])
            if modality in self.present
            else x
            for modality, x in self.features.items()
        }

    def keep_present(self, modality, logits):
        """The logits of a modality, for the samples that have it."""
        if modality not in self.present:
            return logits
        keep = KeepPresent(dtype=logits.dtype, name=f"{modality}_present")
        return keep([logits, self.present[modality]])

    def keep_any(self, logits):
        """The fused logits, for the samples that have any modality."""
        if len(self.present) < len(self.features):
            return logits
        keep = KeepPresent(dtype=logits.dtype, name="fused_present")
        return keep([logits, any_present(list(self.present.values()))])


def encode(encoders, num_classes, missing):
    """Calls the encoders on new inputs, after a look at the arguments."""
    check_encoders(encoders)
    check_width(num_classes)
    missing = check_missing(missing, list(encoders))
    renamed = Renamed()
    inputs, features, present = {}, {}, {}
    for modality, encoder in encoders.items():
        x = inputs[modality] = encoder_inputs(modality, encoder)
        if modality in missing:
            present[modality], x = split_missing(modality, x, missing[modality])
        features[modality] = renamed(f"{modality}_encoder", encoder, x)
        check_features(modality, features[modality])
    return Encoded(inputs, features, present, renamed)


def absent_features(modality):
    return AbsentFeatures(name=f"{modality}_absent")


def to_logits(
    output, layer_name, x, num_classes, head, renamed, activation=None
):
    """Logits of an output, by a head of its own or by one that is given.

    The head of its own may end in an activation.
    """
    # A loss computed in float16 would overflow.
    dtype = keras.config.floatx()
    if head is None:
        layer = keras.layers.Dense(
            num_classes, activation, dtype=dtype, name=layer_name
        )
        return layer(x)
    y = renamed(layer_name, layer_of(head, output), x)
    check_logits(output, y, num_classes)
    if y.dtype == dtype:
        return y
    return keras.layers.Activation(
        "linear", dtype=dtype, name=f"{layer_name}_{dtype}"
    )(y)
