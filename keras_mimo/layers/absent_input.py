import math
import numbers

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class AbsentInput(keras.layers.Layer):
    """What stands where an input is absent, the same for every sample.

    The result has the shape and the dtype of the input, of which no value is
    used (a NaN does no harm).

    Args:
        absent: A number; `"mean"`: the mean of the samples that `adapt()` was
            given; or `"learnt"`: a trainable tensor of the shape of a sample.
            Both are zeros at the start, and need inputs of floats whose shape
            is known but for the batch. Defaults to `0.0`.
        channels: Pair of integers `(start, stop)`: only these of the last axis
            are absent. Defaults to `None`: all.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`.

    Returns:
        Tensor like `inputs`.

    Raises:
        ValueError: If `absent` is none of these, or does not fit the input.

    Example:

    ```python
    absent = keras_mimo.layers.AbsentInput("mean")
    absent.adapt(images)
    no_images = absent(images)
    ```
    """

    # `call()` is made of layers and operations of Keras only.
    composite = True

    def __init__(self, absent=0.0, channels=None, **kwargs):
        # The values of other channels must not be rounded.
        super().__init__(autocast=False, **kwargs)
        if absent not in ("mean", "learnt") and not is_finite_number(absent):
            raise ValueError(
                '`absent` must be a finite number, "mean" or "learnt". '
                f"Received: absent={absent!r}"
            )
        self.absent = absent if isinstance(absent, str) else float(absent)
        self.channels = channels and tuple(channels)
        self.values = None

    def build(self, input_shape):
        if not isinstance(self.absent, str):
            return
        shape = self._sample_shape(input_shape)
        if None in shape:
            raise ValueError(
                f"`absent={self.absent!r}` needs inputs of a known shape. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.values = keras.layers.Embedding(
            1,
            math.prod(shape),
            embeddings_initializer="zeros",
            dtype=keras.config.floatx(),
            trainable=self.absent == "learnt",
            name=f"{self.name}_values",
        )
        self.values.build((None,))

    def adapt(self, data):
        """Sets the mean of `absent="mean"`.

        Args:
            data: Array of shape `(samples, ...)`: the inputs of training.
        """
        if self.absent != "mean":
            raise ValueError(
                '`adapt()` is for `absent="mean"`. '
                f"Received: absent={self.absent!r}"
            )
        data = ops.convert_to_numpy(data)
        if not self.built:
            self.build(data.shape)
            self.built = True
        mean = self._part(data).mean(axis=0, dtype="float64")
        self.values.embeddings.assign(np.reshape(mean, (1, -1)))

    def call(self, inputs):
        absent = self._absent(self._part(inputs))
        if self.channels is None:
            return absent
        start, stop = self.channels
        parts = [inputs[..., :start], absent, inputs[..., stop:]]
        return ops.concatenate([x for x in parts if x.shape[-1] != 0], axis=-1)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "absent": self.absent,
            "channels": self.channels,
        }

    def _absent(self, x):
        if self.values is None:
            return ops.full_like(x, self.absent)
        shape = x.shape[1:]
        # In a functional graph only a tensor knows the size of the batch.
        first = ops.reshape(x, (-1, math.prod(shape)))[:, 0]
        values = self.values(ops.zeros_like(first, dtype="int32"))
        if self.absent == "mean":
            # Also when a user makes all layers trainable.
            values = ops.stop_gradient(values)
        return ops.reshape(ops.cast(values, x.dtype), (-1, *shape))

    def _part(self, x):
        return x if self.channels is None else x[..., slice(*self.channels)]

    def _sample_shape(self, input_shape):
        shape = tuple(input_shape[1:])
        if self.channels is None:
            return shape
        start, stop = self.channels
        return (*shape[:-1], stop - start)


def is_finite_number(value):
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
