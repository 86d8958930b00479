import keras
from keras import ops

from keras_mimo.layers.unit_length import unit_length
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class CosineClassifier(keras.layers.Layer):
    """Logits that are cosines with one direction per class, times a scale.

    A dense layer trained on a long tail has longer weight vectors for the
    larger classes, and so prefers them. Here only directions count.

    It is computed in `float32` at least. Under mixed precision give it
    `dtype="float32"`, as any last layer, so that logits are not rounded.

    Args:
        units: Positive integer, the number of classes.
        scale: Positive float that multiplies the cosines. Softmax needs it: the
            logits are between `-scale` and `scale`. Use `1.0` with
            `keras_mimo.losses.LDAM`, which scales by itself.
            Defaults to `30.0`.
        kernel_initializer: As for `keras.layers.Dense`.
            Defaults to `"glorot_uniform"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Features of shape `(..., features)`.

    Returns:
        Tensor of shape `(..., units)`.

    Raises:
        TypeError: If `units` is no integer or `scale` no number.
        ValueError: If one is not positive.

    Example:

    ```python
    logits = keras_mimo.layers.CosineClassifier(10)(features)
    ```

    Reference:

    - [Gidaris and Komodakis, 2018, Dynamic Few-Shot Visual Learning without
      Forgetting](https://arxiv.org/abs/1804.09458)
    """

    def __init__(
        self, units, scale=30.0, kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(**kwargs)
        self.units = check_units("units", units)
        self.scale = check_number("scale", scale)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=self.kernel_initializer,
            # In float16 the squares of the features overflow.
            autocast=False,
        )

    def call(self, inputs):
        dtype = at_least_float32(self.dtype_policy)
        features = unit_length(ops.cast(inputs, dtype))
        kernel = unit_length(ops.cast(self.kernel, dtype), axis=0)
        logits = self.scale * ops.matmul(features, kernel)
        return ops.cast(logits, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "scale": self.scale,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }
