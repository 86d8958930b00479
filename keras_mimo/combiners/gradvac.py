import keras
import numpy as np
from keras import ops

from keras_mimo.combiners.gradient_surgery import GradientSurgeryCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class GradVacCombiner(GradientSurgeryCombiner):
    """Raises the cosine of each pair of gradients to its usual value.

    Gradient vaccine: as in `PCGradCombiner` a copy of each `g_i` meets the
    other gradients in random order, but what is asked for is not a cosine of 0:
    it is the pair's moving average over the steps before, so that positive
    similarities are used too. Nothing is guaranteed about conflicts.

    Averages start at 0 (so the first step is that of PCGrad), those of pairs
    that are not in the batch are kept, and for the target they are held below
    `1 - sqrt(eps)`, since no finite step gives two vectors a cosine of 1.

    With `training=False` nothing is random: the result is the mean over orders
    of the meetings, all of them for up to four objectives.

    Args:
        beta: Float in `[0, 1]`, what the newest cosine contributes to the
            average. Defaults to `0.5`, as in the LibMTL library; the paper
            uses `0.01`.
        seed: Integer or `None`, of the random orders. Defaults to `None`.

    Raises:
        ValueError: If `beta` is not in `[0, 1]`.

    Reference:

    - [Gradient Vaccine](https://arxiv.org/abs/2010.05874)
    """

    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "random",
            "stateful",
        }
    )

    def __init__(self, beta=0.5, seed=None, **kwargs):
        super().__init__(seed=seed, **kwargs)
        if not 0 <= beta <= 1:
            raise ValueError(
                f"`beta` must be between 0 and 1. Received: beta={beta}"
            )
        self.beta = float(beta)

    def build(self, objective_names):
        super().build(objective_names)
        count = len(self.objective_names)
        self.average_cosines = self.add_weight(
            name="average_cosines",
            shape=(count, count),
            initializer="zeros",
            trainable=False,
        )

    def call(self, losses, gramian=None, active=None, training=True):
        averages = ops.convert_to_tensor(self.average_cosines)
        limit = 1 - float(np.sqrt(np.finfo("float32").eps))
        targets = ops.clip(ops.cast(averages, gramian.dtype), -limit, limit)
        weights, seen, met = self.surgery(gramian, active, targets, training)
        newest = ops.cast(seen, averages.dtype)
        moved = (1 - self.beta) * averages + self.beta * newest
        self.average_cosines.assign(ops.where(met, moved, averages))
        return weights

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}
