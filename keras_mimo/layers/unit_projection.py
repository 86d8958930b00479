import keras

from keras_mimo.layers.unit_length import unit_length
from keras_mimo.utils.arguments import check_units
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class UnitProjection(keras.layers.Layer):
    """A network with one hidden layer whose result has length 1.

    It maps features to the space in which samples are contrasted. (The result
    is 0 where every hidden unit is off: give it more than a few.)

    Its dtype defaults to `float32`, whatever the global policy: the result is
    divided by a small temperature, and must not be rounded before.

    Args:
        units: Positive integer, the dimension of the result.
            Defaults to `128`.
        hidden_units: Positive integer, the width of the hidden layer, or `None`
            for that of the input. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(..., features)`.

    Returns:
        Tensor of shape `(..., units)`, of length 1 along its last axis.

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If it is not positive.

    Example:

    ```python
    projected = keras_mimo.layers.UnitProjection(128)(encoder(images))
    ```
    """

    def __init__(self, units=128, hidden_units=None, **kwargs):
        super().__init__(**{"dtype": at_least_float32(), **kwargs})
        self.units = check_units("units", units)
        if hidden_units is not None:
            hidden_units = check_units("hidden_units", hidden_units)
        self.hidden_units = hidden_units

    def build(self, input_shape):
        width = self.hidden_units or input_shape[-1]
        self.hidden = keras.layers.Dense(
            width, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.output_dense = keras.layers.Dense(
            self.units, dtype=self.dtype_policy, name="output"
        )
        self.hidden.build(input_shape)
        self.output_dense.build((*input_shape[:-1], width))

    def call(self, inputs):
        return unit_length(self.output_dense(self.hidden(inputs)))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "hidden_units": self.hidden_units,
        }
