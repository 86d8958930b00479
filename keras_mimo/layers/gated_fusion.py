import keras
from keras import ops

from keras_mimo.layers.feature_fusion import FeatureFusion
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class GatedFusion(FeatureFusion):
    """A weighted mean of the modalities, by gates that see all of them.

    With `f` the concatenated features, and for each unit,

    `h = sum_m p_m * tanh(V_m f_m)` with `p = softmax_m(W_m f)`:

    the gated multimodal unit, in which two modalities share a sigmoid, for any
    number of them.

    Args:
        units: Positive integer, the width of the result.

    Call arguments:
        features: Dict from the names of at least two modalities to tensors of
            shape `(batch, features)`.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        ValueError: If `units` is not positive or if `features` is no such dict.

    Example:

    ```python
    model = keras_mimo.intermediate_fusion(
        {"accel": accel, "gyro": gyro},
        num_classes=7,
        trunk=keras_mimo.layers.GatedFusion(64),
    )
    ```

    Reference:

    - [Gated Multimodal Units for Information Fusion](
        https://arxiv.org/abs/1702.01992)
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units("units", units)

    def build(self, input_shape):
        super().build(input_shape)
        width = sum(input_shape[m][-1] for m in self.modalities)
        self.values = {
            m: self.dense(
                f"{m}_value", self.units, input_shape[m], activation="tanh"
            )
            for m in self.modalities
        }
        self.gates = {
            m: self.dense(f"{m}_gate", self.units, (None, width))
            for m in self.modalities
        }

    def call(self, features):
        joined = ops.concatenate([features[m] for m in self.modalities], -1)
        gates = self.stacked(lambda m, _: self.gates[m](joined), features)
        values = self.stacked(lambda m, x: self.values[m](x), features)
        return ops.sum(ops.softmax(gates, axis=1) * values, axis=1)

    def compute_output_shape(self, input_shape):
        return (next(iter(input_shape.values()))[0], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
