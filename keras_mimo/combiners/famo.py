import math

import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers.adam import adam
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_numbers
from keras_mimo.utils.arguments import one_each

# Of the released code: the offset of the losses in logarithms.
EPSILON = 1e-8


@keras.saving.register_keras_serializable(package="keras_mimo")
class FAMOCombiner(BalancedGradientCombiner):
    """Makes all losses fall at the same relative rate, without a Gramian.

    Fast adaptive multitask optimization. With `D_k = l_k - min_losses_k + 1e-8`
    and `z` the softmax of K logits over the active objectives, a step descends
    `sum_k z_k * log(D_k)`, rescaled so that its weights, `z_k / D_k`, have sum
    1. Then the losses of the same batch are computed again, and the logits
    descend by Adam towards giving more weight to those whose logarithm fell
    less.

    It costs one forward pass more than plain training, in training mode and
    with the same random numbers, and leaves no trace in metrics or moving
    statistics. The `loss` that is logged is the weighted sum of the losses,
    whose gradient is that of the rescaled logarithms, which can be negative.

    An objective that is absent from a batch keeps its logit and what Adam knows
    of it. A loss below its minimum counts as being there.

    Args:
        learning_rate: Non-negative float, of the logits. Defaults to `0.025`,
            as in the released code.
        decay: Non-negative float, which is added times the logits to their
            gradient. Defaults to `1e-3`, as in the released code.
        min_losses: Lower bounds of the losses: a float, a list of floats in the
            order of the objectives, or a dict that maps their names to floats,
            in which an objective that is left out has 0. Defaults to `0.0`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is negative or not finite where it must be
            or, at build time, if `min_losses` does not fit the objectives.

    Reference:

    - [FAMO: Fast Adaptive Multitask Optimization](
        https://arxiv.org/abs/2306.03792)
    """

    looks_again = True
    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
            "stateful",
        }
    )

    def __init__(
        self, learning_rate=0.025, decay=1e-3, min_losses=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.learning_rate = check_number(
            "learning_rate", learning_rate, positive=False
        )
        self.decay = check_number("decay", decay, positive=False)
        self.min_losses = check_numbers("min_losses", min_losses)

    def build(self, objective_names):
        super().build(objective_names)
        one_each("min_losses", self.min_losses, self.objective_names)
        names = ("logits", "velocity", "square", "steps", "losses_before")
        self.logits, self.velocity, self.square, self.steps, self.before = (
            self.add_weight(
                name=name,
                shape=(len(self.objective_names),),
                initializer="zeros",
                trainable=False,
            )
            for name in names
        )

    def call(self, losses, gramian=None, active=None, training=True):
        self.before.assign(ops.cast(losses, self.before.dtype))
        logits = ops.cast(self.logits, losses.dtype)
        # Of z / D with sum 1, and nothing overflows.
        return _softmax(logits - ops.log(self._distances(losses)), active)

    def compare(self, losses, active):
        losses = ops.cast(losses, self.before.dtype)
        before = ops.log(self._distances(ops.convert_to_tensor(self.before)))
        change = before - ops.log(self._distances(losses))
        shares = _softmax(ops.convert_to_tensor(self.logits), active)
        slope = shares * (change - ops.sum(shares * change))
        slope = slope + self.decay * self.logits
        step, velocity, square, steps = adam(
            slope, self.velocity, self.square, self.steps
        )
        state = [
            (self.logits, self.logits - self.learning_rate * step),
            (self.velocity, velocity),
            (self.square, square),
            (self.steps, steps),
        ]
        for variable, value in state:
            old = ops.convert_to_tensor(variable)
            variable.assign(ops.where(active, value, old))

    def _distances(self, losses):
        lowest = one_each("min_losses", self.min_losses, self.objective_names)
        lowest = ops.convert_to_tensor(lowest, dtype=losses.dtype)
        return ops.relu(losses - lowest) + EPSILON

    def get_config(self):
        return {
            **super().get_config(),
            "learning_rate": self.learning_rate,
            "decay": self.decay,
            "min_losses": self.min_losses,
        }


def _softmax(scores, active):
    # Not a number if no objective is active, and not used then.
    return ops.softmax(ops.where(active, scores, -math.inf))
