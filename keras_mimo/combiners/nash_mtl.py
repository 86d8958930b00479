import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.bargaining import bargaining


@keras.saving.register_keras_serializable(package="keras_mimo")
class NashMTLCombiner(BalancedGradientCombiner):
    """Takes the Nash bargaining solution between the objectives.

    The update is the direction that maximises the product of the objectives'
    improvements `g_k . d`: the weights solve `G a = 1 / a`, exactly and not by
    the released code's sequence of approximations. Every objective improves,
    `g_k . d = 1 / a_k`, and the scale of no loss matters to the direction.

    The length of `d` is `sqrt(K)` whatever those of the gradients, `max_norm`
    at most: it does not shrink as they do, so decay the learning rate. Where
    gradients oppose each other the weights are large, and where no direction
    improves all of them `d` is near 0. An objective whose gradient is 0 has
    nothing to win and is left out.

    Args:
        max_norm: Positive float, the largest length of `d`, or `None` for no
            limit. Defaults to `1.0`, as in the released code.

    Raises:
        ValueError: If `max_norm` is not positive.

    Reference:

    - [Multi-Task Learning as a Bargaining Game](
        https://arxiv.org/abs/2202.01017)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset(
        {
            "non_conflicting",
            "nonnegative",
            "permutation_equivariant",
            "scale_invariant",
        }
    )

    def __init__(self, max_norm=1.0, **kwargs):
        super().__init__(**kwargs)
        if max_norm is not None and not max_norm > 0:
            raise ValueError(
                "`max_norm` must be a positive number or None. "
                f"Received: max_norm={max_norm}"
            )
        self.max_norm = None if max_norm is None else float(max_norm)

    def call(self, losses, gramian=None, active=None, training=True):
        weights = bargaining(gramian, active)
        if self.max_norm is None:
            return weights
        # a' G a = K, and no cancellation between large terms.
        square = ops.sum(ops.cast(weights > 0, weights.dtype))
        norm = ops.sqrt(ops.maximum(square, self.max_norm**2))
        return weights * (self.max_norm / norm)

    def get_config(self):
        return {**super().get_config(), "max_norm": self.max_norm}
