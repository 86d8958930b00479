import keras
from keras import tree

from keras_mimo.fusion.graph import is_shape
from keras_mimo.fusion.graph import new_inputs
from keras_mimo.layers.feature_fusion import FeatureFusion


def fusion_layer(argument, fusion, features, joins):
    """A function from the features of all modalities to one tensor.

    Whatever it creates it creates once, however often it is called.

    Args:
        argument: Name of the argument that the user gave.
        fusion: A Keras layer, or a function of a dict of features.
        features: Dict from modalities to symbolic tensors.
        joins: Boolean: whether a layer that is no `FeatureFusion`, and no model
            of a dict, gets concatenated features and not the dict.

    Raises:
        TypeError: If `fusion` is neither.
        ValueError: If it does not return one tensor of shape
            `(batch, features)`.
    """
    if not callable(fusion):
        raise TypeError(
            f"`{argument}` must be a Keras layer, or a function of the dict of "
            "features that returns one tensor. "
            f"Received: {argument}={fusion!r} of type {type(fusion)}"
        )
    is_layer = isinstance(fusion, keras.Layer)
    by_dict = isinstance(fusion, FeatureFusion) or isinstance(
        getattr(fusion, "input", None) if _is_functional(fusion) else None, dict
    )
    if is_layer and joins and not by_dict:
        return _Joined(argument, fusion, features)
    if isinstance(fusion, FeatureFusion):
        # With its own layers in sight, of which a plain model can be made.
        return _checked(argument, fusion, features)
    inner = new_inputs(features)
    outputs = fusion(inner)
    _check_fused(argument, fusion, outputs)
    return keras.Model(inner, outputs, name=argument)


class _Joined:
    """A layer on concatenated features."""

    def __init__(self, argument, layer, features):
        self._join = keras.layers.Concatenate(name="fused_features")
        inner = new_inputs(self._join(list(features.values())))
        outputs = layer(inner)
        _check_fused(argument, layer, outputs)
        self._model = keras.Model(inner, outputs, name=argument)
        self._order = list(features)

    def __call__(self, features):
        return self._model(self._join([features[m] for m in self._order]))


def _checked(argument, layer, features):
    _check_fused(argument, layer, layer(new_inputs(features)))
    return layer


def _is_functional(layer):
    # Keras gives output names to functional models only.
    return hasattr(layer, "output_names")


def _check_fused(argument, fusion, fused):
    shape = tree.map_structure(lambda x: getattr(x, "shape", x), fused)
    if not is_shape(shape) or len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"`{argument}` must return one tensor of shape `(batch, features)`."
            f" Received: {argument}={fusion}, which returns {shape}"
        )
