import keras

from keras_mimo.combiners.preference import PreferenceCombiner
from keras_mimo.solvers.dual_cone import dual_cone


@keras.saving.register_keras_serializable(package="keras_mimo")
class DualProjCombiner(PreferenceCombiner):
    """Projects the mean gradient onto the cone that opposes no objective.

    The update is the vector `d` with `g_k . d >= 0` for every objective `k`
    that is closest to the mean gradient, exactly: the mean gradient itself
    where it conflicts with none. Known from gradient episodic memory (GEM).

    Args:
        preference: `None` (the mean), list of K non-negative floats in the
            order of the objectives, or dict of them by objective name (0 where
            left out): the weights of the mean, relative to their sum.
            Defaults to `None`.

    Raises:
        TypeError: If `preference` is of another type.
        ValueError: If a preference is not a finite, non-negative number or all
            are 0 or, at build time, if they do not fit the objectives.

    Reference:

    - [Gradient Episodic Memory for Continual Learning](
        https://arxiv.org/abs/1706.08840)
    """

    in_numpy = True
    traits = frozenset(
        {
            "homogeneous",
            "non_conflicting",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        shares = self.shares(active, gramian.dtype)
        return dual_cone(gramian, shares[None, :], active)[0]
