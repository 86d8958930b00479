import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class UncertaintyCombiner(BalancedGradientCombiner):
    """Learns the noise of every objective, and trusts the noisy ones less.

    Uncertainty weighting descends, in the model and in one number `s_k` for
    each objective, the log of its variance,

    `sum_k exp(-s_k) * l_k / 2 + s_k / 2`

    so that the weights `exp(-s_k) / 2` approach `1 / (2 * l_k)`. The numbers
    start at 0 and are trained by the model's optimizer, which may be given a
    weight decay that does not suit them: see
    `keras.optimizers.Optimizer.exclude_from_weight_decay()`. A loss that can be
    negative has no best `s_k` where it is: its weight grows without limit.

    An objective that is absent from a batch contributes neither term.

    Reference:

    - [Multi-Task Learning Using Uncertainty to Weigh Losses](
        https://arxiv.org/abs/1705.07115)
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
        self.log_variances = self.add_weight(
            name="log_variances",
            shape=(len(self.objective_names),),
            initializer="zeros",
        )

    def call(self, losses, gramian=None, active=None, training=True):
        log_variances = ops.cast(self.log_variances, losses.dtype)
        return ops.stop_gradient(ops.exp(-log_variances) / 2)

    def scalarize(self, losses, weights, active):
        losses = ops.where(active, losses, 0.0)
        log_variances = ops.cast(self.log_variances, losses.dtype)
        terms = ops.exp(-log_variances) * losses + log_variances
        return ops.sum(ops.where(active, terms, 0.0)) / 2
