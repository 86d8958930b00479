import keras

from keras_mimo.combiners.preference import PreferenceCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.eigen import pseudo_solve


@keras.saving.register_keras_serializable(package="keras_mimo")
class ConFIGCombiner(PreferenceCombiner):
    """Has the same cosine with every gradient.

    Conflict-free inverse gradients: the direction `u` with equal `g_k . u /
    ||g_k||` for every objective, in closed form, and as length the sum of the
    projections `g_k . u`. No objective is made worse to first order where the
    gradients are linearly independent; where they are not, `u` is the
    least-squares solution and may conflict; where that is no more than rounding
    the update is 0. A gradient of 0 is left out.

    Args:
        preference: `None` (the same cosines), list of K non-negative floats in
            the order of the objectives, or dict of them by objective name (0
            where left out): the cosines' ratios. Defaults to `None`, as in the
            paper.

    Raises:
        TypeError: If `preference` is of another type.
        ValueError: If a preference is not a finite, non-negative number or all
            are 0 or, at build time, if they do not fit the objectives.

    Reference:

    - [ConFIG: Towards Conflict-free Training of Physics Informed Neural
        Networks](https://arxiv.org/abs/2408.11104)
    """

    in_numpy = True
    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "non_conflicting_if_independent",
            "permutation_equivariant",
        }
    )

    def call(self, losses, gramian=None, active=None, training=True):
        matrix, lengths, positive = cosines(gramian, active)
        wanted = self.shares(positive, matrix.dtype)
        units = pseudo_solve(matrix, wanted)
        reached = ops.sum(matrix * units, axis=-1)
        square = ops.sum(units * reached)
        # The sum of projections, over the length of the sum of unit gradients.
        length = ops.sum(ops.where(positive, lengths * reached, 0.0))
        factor = ops.where(square > 0, length, 0.0)
        factor = factor / ops.where(square > 0, square, 1.0)
        return factor * ops.where(positive, units / lengths, 0.0)
