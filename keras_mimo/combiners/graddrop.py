import keras
from keras import ops

from keras_mimo import gradients
from keras_mimo.combiners.coordinates import CoordinateCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class GradDropCombiner(CoordinateCombiner):
    """Lets each coordinate follow one sign, drawn by how much pulls each way.

    In every coordinate the positive entries of the gradients are kept with
    probability `P = (1 + sum_k g_k / sum_k |g_k|) / 2` and the negative ones
    otherwise, and what is kept is summed. Objectives never cancel each other
    within a coordinate.

    With `training=False` the mean over the draws is returned:
    `P` times the positive entries and `1 - P` times the negative ones.

    Args:
        seed: Integer or `None`, of the draws. Defaults to `None`.

    Reference:

    - [Just Pick a Sign](https://arxiv.org/abs/2010.06808)
    """

    traits = frozenset({"homogeneous", "permutation_equivariant", "random"})

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, losses, gramian=None, active=None, training=True):
        return ops.ones_like(losses)

    def combine_coordinates(self, rows, active, training):
        positive = gradients.sum_rows(ops.relu(rows))
        negative = gradients.sum_rows(ops.relu(-rows))
        size = positive + negative
        share = positive / ops.where(size > 0, size, 1.0)
        if training:
            draw = keras.random.uniform(
                ops.shape(share), dtype=share.dtype, seed=self.seed_generator
            )
            share = ops.cast(share > draw, share.dtype)
        return share * positive - (1.0 - share) * negative

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
