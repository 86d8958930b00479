import math

import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class RLWCombiner(BalancedGradientCombiner):
    """Draws new weights at every step.

    Random loss weighting: the softmax, over the active objectives, of normal
    draws. It is a baseline: what does not beat it balances nothing.

    With `training=False` nothing is random: the weights are `1 / K`, those of
    the mean.

    Args:
        seed: Integer or `None`, of the draws. Defaults to `None`.

    Reference:

    - [Reasonable Effectiveness of Random Weighting](
        https://arxiv.org/abs/2111.10603)
    """

    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
            "random",
        }
    )

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, losses, gramian=None, active=None, training=True):
        scores = ops.zeros_like(losses)
        if training:
            draws = keras.random.normal(losses.shape, seed=self.seed_generator)
            scores = ops.cast(draws, losses.dtype)
        # Not a number if no objective is active, and not used then.
        return ops.softmax(ops.where(active, scores, -math.inf))

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
