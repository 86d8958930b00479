import keras
from keras import ops

from keras_mimo.layers.feature_fusion import FeatureFusion
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class AttentionFusion(FeatureFusion):
    """Attention among the modalities, each of which is a token.

    A dense layer for each modality makes the tokens, whose bias tells them
    apart. They attend to each other, with a residual connection around
    `keras.layers.MultiHeadAttention` and layer normalization before it, and the
    result is their mean.

    Args:
        units: Positive integer, the width of tokens and of the result.
        num_heads: Positive integer that divides `units`. Defaults to `4` (our
            choice).
        dropout: Float, the share of attention scores that are dropped in
            training. Defaults to `0.0`.

    Call arguments:
        features: Dict from the names of at least two modalities to tensors of
            shape `(batch, features)`.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        ValueError: If an argument is out of its range or if `features` is no
            such dict.

    Example:

    ```python
    model = keras_mimo.late_fusion(
        {"accel": accel, "gyro": gyro},
        num_classes=7,
        fusion=keras_mimo.layers.AttentionFusion(64),
    )
    ```
    """

    def __init__(self, units, num_heads=4, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.units = check_units("units", units)
        self.num_heads = check_units("num_heads", num_heads)
        self.dropout = dropout
        if self.units % self.num_heads:
            raise ValueError(
                "`num_heads` must divide `units`. "
                f"Received: num_heads={num_heads}, units={units}"
            )

    def build(self, input_shape):
        super().build(input_shape)
        self.tokens = {
            m: self.dense(f"{m}_token", self.units, input_shape[m])
            for m in self.modalities
        }
        shape = (None, len(self.modalities), self.units)
        self.normalization = keras.layers.LayerNormalization(
            dtype=self.dtype_policy, name=f"{self.name}_normalization"
        )
        self.normalization.build(shape)
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads,
            self.units // self.num_heads,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name=f"{self.name}_attention",
        )
        self.attention.build(shape, shape)

    def call(self, features):
        tokens = self.stacked(lambda m, x: self.tokens[m](x), features)
        normal = self.normalization(tokens)
        return ops.mean(tokens + self.attention(normal, normal), axis=1)

    def compute_output_shape(self, input_shape):
        return (next(iter(input_shape.values()))[0], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
        }
