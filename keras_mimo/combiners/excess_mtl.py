import math

import keras
from keras import ops

from keras_mimo.combiners.rows import RowCombiner
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class ExcessMTLCombiner(RowCombiner):
    """Gives more weight to the objectives that are further from their best.

    The losses themselves, which noisy labels may keep high, play no part. The
    excess risk of an objective is estimated by a Taylor expansion with the
    curvature that Adagrad uses, the root of the sum of all squared gradients up
    to this step,

    `E_k = sum_p g_kp^2 / sqrt(sum_t g_kp(t)^2)`

    and the weights, of sum 1, are multiplied by
    `exp(learning_rate * E_k / E_k(0))` in every step. `E_k(0)` is the mean over
    the first steps, in which all weights are the same.

    The released code multiplies the weights by K.

    The sums take the memory of K copies of the balanced variables: pass
    `balanced_variables="backbone"` to `compile()` to leave heads out. The
    logged `conflict` is that of gradients divided by the root of the curvature,
    `gradients_at` is refused, and so are the wrappers.

    An objective that is absent from a batch keeps its sums, and its weight
    relative to those of the others at their mean growth. One whose gradients
    were 0 in the first steps grows as if nothing had changed.

    Args:
        learning_rate: Non-negative float, of the weights. Defaults to `0.01`,
            as in the released code.
        warmup_steps: Positive integer, how many first steps `E_k(0)` is the
            mean of. Defaults to `1`, as in the released code; the paper takes
            the steps of three epochs.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range.

    Reference:

    - [Robust Multi-Task Learning with Excess Risks](
        https://arxiv.org/abs/2402.02009)
    """

    traits = frozenset(
        {"convex", "nonnegative", "permutation_equivariant", "stateful"}
    )

    def __init__(self, learning_rate=0.01, warmup_steps=1, **kwargs):
        super().__init__(**kwargs)
        self.learning_rate = check_number(
            "learning_rate", learning_rate, positive=False
        )
        self.warmup_steps = check_units("warmup_steps", warmup_steps)

    def build(self, objective_names):
        super().build(objective_names)
        self.logits, self.first_risks, self.steps = (
            self.add_weight(
                name=name,
                shape=(len(self.objective_names),),
                initializer="zeros",
                trainable=False,
            )
            for name in ("logits", "first_risks", "steps")
        )

    def see(self, rows, active, changed):
        seen = []
        for matrix, variable in zip(rows, self.kept, strict=True):
            total = ops.cast(variable, matrix.dtype) + matrix * matrix
            self.advance(variable, total, changed)
            size = ops.sqrt(ops.sqrt(total))
            seen.append(matrix / ops.where(size > 0, size, 1.0))
        return seen, rows

    def call(self, losses, gramian=None, active=None, training=True):
        risks = ops.diagonal(gramian)
        dtype = risks.dtype
        steps = ops.cast(ops.copy(self.steps), dtype)
        first = ops.cast(ops.copy(self.first_risks), dtype)
        warm = active & (steps < self.warmup_steps)
        share = 1.0 / (steps + 1.0)
        self.first_risks.assign(
            ops.where(warm, first + share * (risks - first), first)
        )
        self.steps.assign(ops.where(warm, steps + 1.0, steps))

        growing = ops.cast(active & ~warm, dtype)
        growth = ops.where(first > 0, risks / ops.where(first > 0, first, 1), 1)
        # A quotient may leave float32.
        growth = ops.minimum(growth, 1e30)
        mean = ops.sum(growth * growing) / ops.maximum(ops.sum(growing), 1.0)
        logits = ops.cast(ops.copy(self.logits), dtype)
        # Less the mean, which changes no weight, so that no sum grows.
        logits = logits + self.learning_rate * (growth - mean) * growing
        self.logits.assign(logits)
        # Not a number if no objective is active, and not used then.
        return ops.softmax(ops.where(active, logits, -math.inf))

    def get_config(self):
        return {
            **super().get_config(),
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }
