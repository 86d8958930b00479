import keras
from keras import ops

from keras_mimo.combiners.wrapper import CombinerWrapper


@keras.saving.register_keras_serializable(package="keras_mimo")
class Smoothed(CombinerWrapper):
    """Averages a combiner's weights, or the Gramian it sees, over steps.

    The Gramian of a small batch is noisy, and combiners that pick out a
    direction follow the noise. An exponential moving average, corrected for its
    start as in Adam, takes it out.

    What concerns an objective that is absent from a batch keeps its average:
    the weight of that objective, and its row and column of the Gramian.

    Args:
        combiner: The `BalancedGradientCombiner` to smooth.
        momentum: Float in `[0, 1)`, the share of the past. Defaults to `0.9`,
            the value of CR-MOGM.
        of: What is averaged, `"weights"` (CR-MOGM) or `"gramian"`. Defaults to
            `"weights"`.

    Raises:
        ValueError: If `momentum` is not in `[0, 1)`, or `of` is neither.

    Reference:

    - CR-MOGM: Zhou et al., 2022, On the Convergence of Stochastic
      Multi-Objective Gradient Manipulation and Beyond
    """

    def __init__(self, combiner, momentum=0.9, of="weights", **kwargs):
        super().__init__(combiner, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be in [0, 1). Received: momentum={momentum}"
            )
        if of not in ("weights", "gramian"):
            raise ValueError(
                f'`of` must be "weights" or "gramian". Received: of={of!r}'
            )
        self.momentum = float(momentum)
        self.of = of
        self.needs = "gramian" if of == "gramian" else combiner.needs

    def build(self, objective_names):
        super().build(objective_names)
        count = len(objective_names)
        shape = (count,) if self.of == "weights" else (count, count)
        # The average is total / mass, so that its start weighs nothing.
        self.total, self.mass = (
            self.add_weight(
                name=name, shape=shape, initializer="zeros", trainable=False
            )
            for name in ("total", "mass")
        )

    def call(self, losses, gramian=None, active=None, training=True):
        if self.of == "gramian":
            pairs = active[:, None] & active[None, :]
            gramian = self._average(gramian, pairs)
            return self.combiner(losses, gramian, active, training)
        weights = self.combiner(losses, gramian, active, training)
        return self._average(weights, active)

    def _average(self, values, present):
        total = self._advance(self.total, values, present)
        mass = self._advance(self.mass, ops.ones_like(values), present)
        return ops.where(present, total / ops.where(mass > 0, mass, 1.0), 0.0)

    def _advance(self, variable, values, present):
        old = ops.cast(ops.convert_to_tensor(variable), values.dtype)
        new = self.momentum * old + (1.0 - self.momentum) * values
        new = ops.where(present, new, old)
        variable.assign(new)
        return new

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "of": self.of,
        }
