import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner

# Below the losses that still mean something in float32.
SMALLEST = 1e-8


@keras.saving.register_keras_serializable(package="keras_mimo")
class GLSCombiner(BalancedGradientCombiner):
    """Descends the geometric mean of the losses.

    Geometric loss strategy: `F = (prod_k l_k) ** (1 / K)` over the K active
    objectives, whose weights are `F / (K * l_k)`. The scale of no loss matters
    to the direction.

    Losses must be positive. One below `1e-8`, zero or negative, counts as
    `1e-8` and has weight 0; since it makes `F` small it also takes the weights
    of the others towards 0. So a loss that reaches 0, or is negative by
    nature, ends the training of all: do not use this combiner with one.

    Reference:

    - [MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
        for Multi-Task Learning](https://arxiv.org/abs/1904.08492)
    """

    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        mean = _geometric_mean(losses, active)
        small = losses <= SMALLEST
        slopes = mean / ops.where(small, 1.0, losses) / _count(losses, active)
        return ops.where(small, 0.0, slopes)

    def scalarize(self, losses, weights, active):
        return _geometric_mean(losses, active)


def _geometric_mean(losses, active):
    losses = ops.where(active, losses, 1.0)
    # Not a maximum: a NaN must show.
    losses = ops.where(losses <= SMALLEST, SMALLEST, losses)
    mean = ops.exp(ops.sum(ops.log(losses)) / _count(losses, active))
    return ops.where(ops.any(active), mean, 0.0)


def _count(losses, active):
    return ops.maximum(ops.sum(ops.cast(active, losses.dtype)), 1.0)
