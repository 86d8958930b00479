import keras

from keras_mimo.combiners.preference import PreferenceCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.dual_cone import dual_cone


@keras.saving.register_keras_serializable(package="keras_mimo")
class UPGradCombiner(PreferenceCombiner):
    """Projects each gradient onto the cone that opposes none, then averages.

    Unconflicting projection of gradients: each `g_k` is replaced by the closest
    vector `d` with `g_j . d >= 0` for every objective `j`, exactly, and the
    mean of these is the update. No objective is made worse to first order, and
    each one's share grows linearly with the length of its own gradient.

    Args:
        preference: `None` (the mean, as in the paper), list of K non-negative
            floats in the order of the objectives, or dict of them by objective
            name (0 where left out): the weights of the mean, relative to their
            sum. Defaults to `None`.

    Raises:
        TypeError: If `preference` is of another type.
        ValueError: If a preference is not a finite, non-negative number or all
            are 0 or, at build time, if they do not fit the objectives.

    Reference:

    - [Jacobian Descent for Multi-Objective Optimization](
        https://arxiv.org/abs/2406.16232)
    """

    in_numpy = True
    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "non_conflicting",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        shares = self.shares(active, gramian.dtype)
        # No `diag`: XLA does not compile that of Keras 3.12 on TensorFlow.
        each = shares * ops.eye(shares.shape[0], dtype=shares.dtype)
        return ops.sum(dual_cone(gramian, each, active), axis=0)
