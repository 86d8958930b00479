import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class AbsentFeatures(keras.layers.Layer):
    """A learnt vector in the place of features that are not there.

    It starts as zeros.

    Call arguments:
        features: Tensor of shape `(batch, features)`.
        present: Optional boolean tensor of shape `(batch,)`: the samples that
            keep their features. Defaults to `None`: none does.

    Returns:
        Tensor of the shape and dtype of `features`.

    Example:

    ```python
    absent = keras_mimo.layers.AbsentFeatures()
    without_gyro = trunk([accel_features, absent(gyro_features)])
    ```
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def build(self, features_shape, present_shape=None):
        self.vector = keras.layers.Embedding(
            1,
            features_shape[-1],
            embeddings_initializer="zeros",
            dtype=self.dtype_policy,
            name=f"{self.name}_vector",
        )
        self.vector.build((None,))

    def call(self, features, present=None):
        absent = self.vector(ops.zeros_like(features[:, 0], dtype="int32"))
        if present is None:
            return absent
        return ops.where(ops.expand_dims(present, -1), features, absent)

    def compute_output_shape(self, features_shape, present_shape=None):
        return features_shape
