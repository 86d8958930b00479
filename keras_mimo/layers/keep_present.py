import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class KeepPresent(keras.layers.Layer):
    """Zeros, and a mask, for the samples that have no part in an output.

    Losses and metrics of Keras leave out what is masked.

    Call arguments:
        inputs: List of a tensor of shape `(batch, width)` and a boolean tensor
            of shape `(batch,)`: the samples that are kept.

    Returns:
        Tensor of the shape of the first.
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def call(self, inputs):
        x, present = inputs
        return ops.where(ops.expand_dims(present, -1), x, 0.0)

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]

    def compute_output_shape(self, input_shape):
        return input_shape[0]
