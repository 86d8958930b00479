import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers.adam import adam
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class GradNormCombiner(BalancedGradientCombiner):
    """Gives longer gradients to the objectives that train more slowly.

    With the weights `w`, which start at 1 and have sum K, the rates
    `L_k = l_k / l_k(0)` and `r_k = L_k / mean(L)`, a step is along
    `sum_k w_k * g_k`, and then `w` descends

    `sum_k |w_k * ||g_k|| - T_k|`, `T_k = mean_j(w_j * ||g_j||) * r_k^alpha`

    with the targets `T` held fixed, by a step of Adam, and is given its sum
    again. Where the paper leaves a weight free to become negative, 0 is the
    lowest here.

    As in the paper, compare gradients in the last layer that objectives share:
    pass its variables as `balanced_variables` to `compile()`.

    `l_k(0)` is the first positive loss; before, and for a negative loss, `L_k`
    is 1 and 0. An objective that is absent from a batch keeps its weight and
    what Adam knows of it, and the others keep the sum of theirs.

    Args:
        alpha: Non-negative float: how strongly the rates are evened out. With
            0, all gradients get the same length. Defaults to `1.5`, the
            paper's for NYUv2; `0.12` for tasks that are alike.
        learning_rate: Non-negative float, of the weights. Defaults to `0.025`,
            as in the paper, with Adam.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is negative or not finite.

    Reference:

    - [GradNorm: Gradient Normalization for Adaptive Loss Balancing](
        https://arxiv.org/abs/1711.02257)
    """

    needs = "gramian"
    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
            "stateful",
        }
    )

    def __init__(self, alpha=1.5, learning_rate=0.025, **kwargs):
        super().__init__(**kwargs)
        self.alpha = check_number("alpha", alpha, positive=False)
        self.learning_rate = check_number(
            "learning_rate", learning_rate, positive=False
        )

    def build(self, objective_names):
        super().build(objective_names)
        names = ("task_weights", "velocity", "square", "steps", "first_losses")
        made = [
            self.add_weight(
                name=name,
                shape=(len(self.objective_names),),
                initializer="ones" if name == "task_weights" else "zeros",
                trainable=False,
            )
            for name in names
        ]
        self.task_weights, *self.moments, self.first_losses = made

    def call(self, losses, gramian=None, active=None, training=True):
        # A copy: PyTorch assigns in place.
        weights = ops.copy(self.task_weights)
        self._learn(
            ops.cast(losses, weights.dtype),
            ops.cast(ops.sqrt(ops.relu(ops.diagonal(gramian))), weights.dtype),
            weights,
            active,
        )
        return ops.cast(weights, losses.dtype)

    def _learn(self, losses, lengths, weights, active):
        norms = weights * lengths
        targets = _mean(norms, active) * self._rates(losses, active)
        slope = ops.sign(norms - targets) * lengths
        before = [ops.convert_to_tensor(v) for v in self.moments]
        step, *moments = adam(slope, *before)
        learnt = ops.relu(weights - self.learning_rate * step)
        total = _mean(learnt, active)
        # All at 0 would stay there.
        kept = active & (total > 0)
        factor = _mean(weights, active) / ops.where(total > 0, total, 1.0)
        self.task_weights.assign(ops.where(kept, learnt * factor, weights))
        for variable, old, new in zip(
            self.moments, before, moments, strict=True
        ):
            variable.assign(ops.where(active, new, old))

    def _rates(self, losses, active):
        first = ops.convert_to_tensor(self.first_losses)
        first = ops.where(first > 0, first, ops.relu(losses))
        self.first_losses.assign(first)
        known = first > 0
        ratios = ops.relu(losses) / ops.where(known, first, 1.0)
        ratios = ops.where(known, ratios, 1.0)
        mean = _mean(ratios, active)
        relative = ratios / ops.where(mean > 0, mean, 1.0)
        ratios = ops.where(mean > 0, relative, 1.0)
        return ratios**self.alpha

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
        }


def _mean(values, active):
    active = ops.cast(active, values.dtype)
    return ops.sum(values * active) / ops.maximum(ops.sum(active), 1.0)
