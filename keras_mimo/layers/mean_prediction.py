import keras
from keras import ops

from keras_mimo.layers.feature_fusion import FeatureFusion
from keras_mimo.utils.dtypes import at_least_float32

ACTIVATIONS = ("softmax", "sigmoid", "linear")


@keras.saving.register_keras_serializable(package="keras_mimo")
class MeanPrediction(FeatureFusion):
    """The mean of what several modalities predict, each as sure as it is.

    Of logits `z_m`, `mean_m activation(z_m)`, as logits again: for softmax
    `log mean_m softmax(z_m)`, so that the result goes with the same loss.

    Args:
        activation: `"softmax"` for classes, `"sigmoid"` for several labels, or
            `"linear"` for values. Defaults to `"softmax"`.
        **kwargs: Arguments of `keras.layers.Layer`. Its dtype defaults to
            `keras.config.floatx()`, whatever the global policy.

    Call arguments:
        inputs: Dict from the names of at least two modalities to tensors of
            shape `(batch, width)`.

    Returns:
        Tensor of shape `(batch, width)`.

    Raises:
        ValueError: If `activation` is unknown.

    Reference:

    - [On Uni-Modal Feature Learning in Supervised Multi-Modal Learning](
        https://arxiv.org/abs/2305.01233)
    """

    def __init__(self, activation="softmax", **kwargs):
        super().__init__(**{"dtype": at_least_float32(), **kwargs})
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"`activation` must be one of {ACTIVATIONS}. "
                f"Received: activation={activation!r}"
            )
        self.activation = activation

    def call(self, inputs):
        logits = ops.stack([inputs[m] for m in self.modalities], axis=1)
        count = len(self.modalities)
        if self.activation == "softmax":
            log_p = ops.log_softmax(logits, axis=-1)
            return ops.logsumexp(log_p, axis=1) - ops.log(float(count))
        if self.activation == "sigmoid":
            # log p and log(1 - p), of which the means are no farther from 0.
            yes = ops.logsumexp(ops.log_sigmoid(logits), axis=1)
            return yes - ops.logsumexp(ops.log_sigmoid(-logits), axis=1)
        return ops.mean(logits, axis=1)

    def compute_output_shape(self, input_shape):
        return next(iter(input_shape.values()))

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}
