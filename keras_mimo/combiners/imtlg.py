import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.eigen import pseudo_solve
from keras_mimo.solvers.rounding import rounding


@keras.saving.register_keras_serializable(package="keras_mimo")
class IMTLGCombiner(BalancedGradientCombiner):
    """Has the same projection on the direction of every gradient.

    Impartial multi-task learning, the part on gradients: weights of sum 1 for
    which `g_k . d / ||g_k||` is the same for every objective, in closed form.
    Weights can be negative, and the common projection too where they are: then
    every objective is made worse. For dependent gradients it is the
    least-squares solution in the unit gradients. Where the weights cannot be
    given sum 1, up to rounding, the update is 0, and so is the weight of a
    gradient of 0.

    Reference:

    - [Towards Impartial Multi-task Learning](
        https://openreview.net/forum?id=IMPnRXEWpvr)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset({"homogeneous", "permutation_equivariant"})

    def call(self, losses, gramian=None, active=None, training=True):
        matrix, lengths, positive = cosines(gramian, active)
        ones = ops.cast(positive, matrix.dtype)
        # Relative to the shortest, so that nothing overflows.
        shortest = ops.min(ops.where(positive, lengths, ops.max(lengths)))
        weights = pseudo_solve(matrix, ones) * ones * (shortest / lengths)
        total = ops.sum(weights)
        visible = abs(total) > rounding(matrix) * ops.sum(abs(weights))
        return ops.where(visible, weights / ops.where(visible, total, 1.0), 0.0)
