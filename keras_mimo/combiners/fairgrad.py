import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers.bargaining import bargaining


@keras.saving.register_keras_serializable(package="keras_mimo")
class FairGradCombiner(BalancedGradientCombiner):
    """Improves the objectives alpha-fairly.

    The update maximises the alpha-fair utility of the improvements `g_k . d`:
    the weights solve `G a = a ** (-1 / alpha)`, exactly. Every objective
    improves, `g_k . d = a_k ** (-1 / alpha)`; `alpha = 1` is Nash-MTL without a
    limit on the length, and the larger `alpha`, the more equal the
    improvements.

    Gradients scaled by `c` scale the update by
    `c ** ((1 - alpha) / (1 + alpha))`, which for `alpha > 1` means longer steps
    for shorter gradients: decay the learning rate. Where no direction improves
    all objectives the update is near 0. An objective whose gradient is 0 has
    nothing to win and is left out.

    Args:
        alpha: Positive float. Defaults to `1.0`, as in the LibMTL library. Far
            above 5, the powers with which an easy objective's weight falls are
            soon below what `float32` can hold.

    Raises:
        ValueError: If `alpha` is not positive and finite.

    Reference:

    - [Fair Resource Allocation in Multi-Task Learning](
        https://arxiv.org/abs/2402.15638)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset(
        {"non_conflicting", "nonnegative", "permutation_equivariant"}
    )

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        if not 0 < alpha < float("inf"):
            raise ValueError(
                "`alpha` must be a positive, finite number. "
                f"Received: alpha={alpha}"
            )
        self.alpha = float(alpha)

    def call(self, losses, gramian=None, active=None, training=True):
        return bargaining(gramian, active, exponent=1 / self.alpha)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}
