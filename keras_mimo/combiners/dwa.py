import math

import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class DWACombiner(BalancedGradientCombiner):
    """Gives more weight to the objectives whose losses fall more slowly.

    Dynamic weight average: with `L_k(t)` the mean loss over epoch `t` and
    `r_k = L_k(t - 1) / L_k(t - 2)`, the weights in epoch `t` are
    `K * softmax(r / temperature)` over the K active objectives, whose sum is K.
    In the first two epochs they are all 1.

    `fit()` tells the combiner when an epoch is over. In a loop of your own call
    `on_epoch_end()`.

    An objective without a batch in an epoch keeps its last mean. Where the
    earlier mean is not known yet or not positive, `r_k` is 1.

    Args:
        temperature: Positive float; the larger, the more alike the weights.
            Defaults to `2.0`, the value of the paper.

    Raises:
        TypeError: If `temperature` is no number.
        ValueError: If `temperature` is not positive.

    Reference:

    - [End-to-End Multi-Task Learning with Attention](
        https://arxiv.org/abs/1803.10704)
    """

    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
            "stateful",
        }
    )

    def __init__(self, temperature=2.0, **kwargs):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature)

    def build(self, objective_names):
        super().build(objective_names)
        self.total, self.count, self.last_mean, self.mean_before = (
            self.add_weight(
                name=name,
                shape=(len(self.objective_names),),
                initializer="zeros",
                trainable=False,
            )
            for name in ("total", "count", "last_mean", "mean_before")
        )

    def call(self, losses, gramian=None, active=None, training=True):
        self.total.assign_add(ops.cast(losses, self.total.dtype))
        self.count.assign_add(ops.cast(active, self.count.dtype))
        last = ops.cast(self.last_mean, losses.dtype)
        before = ops.cast(self.mean_before, losses.dtype)
        known = before > 0
        ratios = ops.where(known, last / ops.where(known, before, 1.0), 1.0)
        # A quotient may leave float32.
        ratios = ops.clip(ratios, -1e30, 1e30)
        masked = ops.where(active, ratios, -math.inf)
        # Not a number if no objective is active, and not used then.
        shares = ops.softmax((masked - ops.max(masked)) / self.temperature)
        return shares * ops.sum(ops.cast(active, losses.dtype))

    def on_epoch_end(self):
        last = ops.convert_to_tensor(self.last_mean)
        count = ops.convert_to_tensor(self.count)
        mean = ops.where(count > 0, self.total / ops.maximum(count, 1.0), last)
        self.mean_before.assign(last)
        self.last_mean.assign(mean)
        for variable in (self.total, self.count):
            variable.assign(ops.zeros_like(mean))

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
