import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class IMTLLCombiner(BalancedGradientCombiner):
    """Learns a scale for every loss that gives all of them the same size.

    Impartial multi-task learning, the part on losses: the model and one number
    `s_k` for each objective descend

    `sum_k exp(s_k) * l_k - s_k`

    so that the weights `exp(s_k)` approach `1 / l_k`. The numbers start at 0
    and are trained by the model's optimizer, as in `UncertaintyCombiner`, which
    is the same up to factors of 2. Losses must be positive to have a best
    `s_k`: the weight of another one grows without limit.

    An objective that is absent from a batch contributes neither term.

    Reference:

    - [Towards Impartial Multi-task Learning](
        https://openreview.net/forum?id=IMPnRXEWpvr)
    """

    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
            "trainable",
        }
    )

    def build(self, objective_names):
        super().build(objective_names)
        self.log_scales = self.add_weight(
            name="log_scales",
            shape=(len(self.objective_names),),
            initializer="zeros",
        )

    def call(self, losses, gramian=None, active=None, training=True):
        log_scales = ops.cast(self.log_scales, losses.dtype)
        return ops.stop_gradient(ops.exp(log_scales))

    def scalarize(self, losses, weights, active):
        losses = ops.where(active, losses, 0.0)
        log_scales = ops.cast(self.log_scales, losses.dtype)
        terms = ops.exp(log_scales) * losses - log_scales
        return ops.sum(ops.where(active, terms, 0.0))
