import keras

from keras_mimo.combiners.gradient_surgery import GradientSurgeryCombiner
from keras_mimo.solvers import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class PCGradCombiner(GradientSurgeryCombiner):
    """Removes from each gradient what opposes another, then sums.

    Projecting conflicting gradients: a copy of each `g_i` meets the other
    gradients in random order and, where their inner product is negative, is
    projected onto the plane orthogonal to the other one. For two objectives
    that is twice `UPGradCombiner`, and conflicts with neither; for more, a
    later projection can bring back a conflict with an earlier objective.

    With `training=False` nothing is random: the result is the mean over orders
    of the meetings, all of them for up to four objectives.

    Args:
        seed: Integer or `None`, of the random orders. Defaults to `None`.

    Reference:

    - [Gradient Surgery for Multi-Task Learning](
        https://arxiv.org/abs/2001.06782)
    """

    in_numpy = True
    traits = frozenset(
        {"homogeneous", "linear_under_scaling", "nonnegative", "random"}
    )

    def call(self, losses, gramian=None, active=None, training=True):
        targets = ops.zeros_like(gramian)
        return self.surgery(gramian, active, targets, training)[0]
