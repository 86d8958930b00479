import keras
from keras import ops


class FeatureFusion(keras.layers.Layer):
    """Base class of layers from the features of all modalities to one vector.

    Call arguments:
        features: Dict from the names of at least two modalities to tensors of
            shape `(batch, features)`, of any width each.

    Returns:
        Tensor of shape `(batch, units)`.
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def build(self, input_shape):
        if not isinstance(input_shape, dict) or len(input_shape) < 2:
            raise ValueError(
                f"{type(self).__name__} must be called with a dict of the "
                "features of at least two modalities. "
                f"Received: features of shape {input_shape}"
            )
        # Not by the order of the dict, which backends change.
        self.modalities = sorted(input_shape)

    def dense(self, suffix, units, input_shape, **options):
        """A built dense layer with a name that no other has in a model."""
        layer = keras.layers.Dense(
            units,
            dtype=self.dtype_policy,
            name=f"{self.name}_{suffix}",
            **options,
        )
        layer.build(input_shape)
        return layer

    def stacked(self, function, features):
        """`function(modality, features)` of each, `(batch, M, units)`."""
        parts = [function(m, features[m]) for m in self.modalities]
        return ops.stack(parts, axis=1)
