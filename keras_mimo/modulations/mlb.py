import keras
from keras import ops

from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.ratios import mean_over_others
from keras_mimo.utils.ratios import pairwise


@keras.saving.register_keras_serializable(package="keras_mimo")
class MLB(Modulation):
    """Multi-loss balancing: speeds up who is behind, slows who is ahead.

    With scores `s` and `r_m` the mean score of the other modalities over `s_m`,

        k_m = 1 + (beta_m - 1) * tanh(alpha * (r_m - 1)),

    `beta_m` being `beta` where `r_m > 1` and 2 where not: a factor goes from
    above 0 to below `beta`. It acts on an encoder and on its head.

    The paper descends the sum of the fused and the uni-modal losses: compile
    with `combiner="sum"`.

    Args:
        alpha: Positive float. Defaults to `0.5`, the paper's value for CREMA-D
            (2 for AVE).
        beta: Float above 1, the largest factor. Defaults to `10.0`, the paper's
            value for CREMA-D.
        start: As in `Modulation`.
        stop: As in `Modulation`.
        scale: As in `Modulation`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="sum",
        modulation=keras_mimo.modulations.MLB(),
    )
    ```

    Reference:

    - [Kontras et al., 2024, Improving Multimodal Learning with Multi-Loss
      Gradient Modulation](https://arxiv.org/abs/2405.07930)
    """

    on_heads = True

    def __init__(
        self,
        alpha=0.5,
        beta=10.0,
        start=0,
        stop=None,
        scale="gradient",
        **kwargs,
    ):
        super().__init__(start, stop, scale, **kwargs)
        self.alpha = check_number("alpha", alpha)
        self.beta = check_number("beta", beta)
        if not self.beta > 1:
            raise ValueError(
                f"`beta` must be above 1. Received: beta={self.beta}"
            )

    def call(self, scores, losses, training=True):
        behind = mean_over_others(ops.transpose(pairwise(scores)))
        reach = ops.where(behind > 1.0, self.beta - 1.0, 1.0)
        return 1.0 + reach * ops.tanh(self.alpha * (behind - 1.0))

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
