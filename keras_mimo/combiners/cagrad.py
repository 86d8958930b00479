import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.max_min import max_min

RESCALES = (None, "linear", "square")


@keras.saving.register_keras_serializable(package="keras_mimo")
class CAGradCombiner(BalancedGradientCombiner):
    """Improves the worst objective as much as it can near the mean gradient.

    Conflict-averse gradient descent: of all `d` within `c * ||g||` of the mean
    gradient `g`, the one with the largest `min_k g_k . d`, exactly. With
    `c = 0` that is the mean; with `c >= 1` no objective is made worse to first
    order; and with `c < 1`, the default, one may be, but `g . d >= 0` stays, so
    that the method converges to a stationary point of the mean loss.

    Args:
        c: Non-negative float, the radius. Defaults to `0.4`, the paper's choice
            for multi-task learning.
        rescale: What `d` is divided by, one of `"square"` (`1 + c**2`),
            `"linear"` (`1 + c`) and `None`. Defaults to `"square"`, as in the
            released code.

    Raises:
        ValueError: If `c` is negative or infinite, or if `rescale` is none of
            these.

    Reference:

    - [Conflict-Averse Gradient Descent for Multi-task Learning](
        https://arxiv.org/abs/2110.14048)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset(
        {"homogeneous", "nonnegative", "permutation_equivariant"}
    )

    def __init__(self, c=0.4, rescale="square", **kwargs):
        super().__init__(**kwargs)
        if not 0 <= c < float("inf"):
            raise ValueError(
                f"`c` must be a non-negative, finite number. Received: c={c}"
            )
        if rescale not in RESCALES:
            raise ValueError(
                "Invalid value for argument `rescale`. Expected one of "
                f"{RESCALES}. Received: rescale={rescale!r}"
            )
        self.c = float(c)
        self.rescale = rescale

    def call(self, losses, gramian=None, active=None, training=True):
        active_count = ops.sum(ops.cast(active, gramian.dtype))
        mean = ops.ones_like(losses) / ops.maximum(active_count, 1.0)
        weights = max_min(gramian, mean, self.c, active)
        square, linear = 1 + self.c**2, 1 + self.c
        return (
            weights
            / {"square": square, "linear": linear, None: 1}[self.rescale]
        )

    def get_config(self):
        return {**super().get_config(), "c": self.c, "rescale": self.rescale}
