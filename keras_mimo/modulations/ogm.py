import keras
from keras import ops

from keras_mimo.gradients.sparse import dense
from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.ratios import mean_over_others
from keras_mimo.utils.ratios import pairwise


@keras.saving.register_keras_serializable(package="keras_mimo")
class OGM(Modulation):
    """On-the-fly gradient modulation: slows the encoders that are ahead.

    With scores `s`, for two modalities and their ratio `rho_m = s_m / s_j`,

        k_m = 1 - tanh(alpha * rho_m)        where rho_m > 1, else 1

    and for more, as in the journal version, with `rho_m` the mean of
    `s_m / s_j` over the others `j`,

        k_m = 1 - alpha * tanh(rho_m - 1)    where rho_m > 1, else 1.

    With `noise` (OGM-GE) every tensor `g` of an encoder's gradient also gets
    normal noise of the standard deviation of its entries, to make up for the
    noise that a smaller step has less of.

    The papers train by SGD, on the fused loss alone: by `combiner=None`, with
    the modalities' outputs being the parts of a fused sum. The released code
    modulates the kernels of convolutions only; here all of an encoder.

    Args:
        alpha: Positive float; below 1 for more than two modalities. Defaults to
            `0.8`, the papers' value for CREMA-D (.1 for VGGSound).
        noise: Boolean, whether to add the noise (GE). Defaults to `False`.
        seed: Optional integer, the seed of the noise.
        start: As in `Modulation`.
        stop: As in `Modulation`. The paper: 50.
        scale: As in `Modulation`.

    Raises:
        ValueError: If `alpha` is out of range, at build time by the number of
            modalities.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        modulation=keras_mimo.modulations.OGM(alpha=0.8, noise=True, stop=50),
    )
    ```

    Reference:

    - [Peng et al., 2022, Balanced Multimodal Learning via On-the-fly Gradient
      Modulation](https://arxiv.org/abs/2203.15332)
    """

    def __init__(
        self,
        alpha=0.8,
        noise=False,
        seed=None,
        start=0,
        stop=None,
        scale="gradient",
        **kwargs,
    ):
        super().__init__(start, stop, scale, **kwargs)
        self.alpha = check_number("alpha", alpha)
        self.noise = bool(noise)
        self.seed = seed
        if self.noise:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, modalities, encoders=None):
        super().build(modalities, encoders)
        if len(self.modalities) > 2 and self.alpha >= 1:
            raise ValueError(
                "`alpha` must be below 1 for more than two modalities. "
                f"Received: alpha={self.alpha} for {self.modalities}"
            )

    def call(self, scores, losses, training=True):
        ahead = mean_over_others(pairwise(scores))
        if len(self.modalities) == 2:
            slowed = 1.0 - ops.tanh(self.alpha * ahead)
        else:
            slowed = 1.0 - self.alpha * ops.tanh(ahead - 1.0)
        return ops.where(ahead > 1.0, slowed, 1.0)

    def modulate_gradient(self, gradient, factor):
        scaled = super().modulate_gradient(gradient, factor)
        if not self.noise:
            return scaled
        scaled, gradient = dense(scaled), dense(gradient)
        noise = keras.random.normal(
            ops.shape(gradient), dtype="float32", seed=self.seed_generator
        )
        noise = ops.where(self.acts(), noise, 0.0)
        return scaled + ops.std(gradient) * ops.cast(noise, gradient.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "noise": self.noise,
            "seed": self.seed,
        }
