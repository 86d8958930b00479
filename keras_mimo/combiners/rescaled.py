import keras
from keras import ops

from keras_mimo.combiners.wrapper import CombinerWrapper
from keras_mimo.solvers.length import combined_length


@keras.saving.register_keras_serializable(package="keras_mimo")
class Rescaled(CombinerWrapper):
    """Keeps a combiner's direction, at the length of the mean gradient.

    Some combiners shorten the step where gradients conflict, to nothing in the
    end, and some lengthen it. Here the learning rate means what it means when
    the losses are averaged.

    Where the direction, or that mean, is shorter than the rounding of the
    Gramian can tell from 0, the update is 0.

    Args:
        combiner: The `BalancedGradientCombiner` that gives the direction.
        to: Whose length the direction gets: `"mean"`, that of the mean of the
            active objectives' gradients, or `"sum"`, that of their sum.
            Defaults to `"mean"`.

    Raises:
        ValueError: If `to` is neither.

    Example:

    ```python
    combiner = keras_mimo.combiners.Rescaled(
        keras_mimo.combiners.Smoothed(
            keras_mimo.MGDACombiner("l2"), of="gramian"
        )
    )
    ```
    """

    needs = "gramian"

    def __init__(self, combiner, to="mean", **kwargs):
        super().__init__(combiner, **kwargs)
        if to not in ("mean", "sum"):
            raise ValueError(
                f'`to` must be "mean" or "sum". Received: to={to!r}'
            )
        self.to = to

    def call(self, losses, gramian=None, active=None, training=True):
        weights = self.combiner(losses, gramian, active, training)
        reference = ops.cast(active, gramian.dtype)
        if self.to == "mean":
            reference = reference / ops.maximum(ops.sum(reference), 1.0)
        length = combined_length(weights, gramian)
        target = combined_length(reference, gramian)
        ratio = target / ops.where(length > 0, length, 1.0)
        return ops.where(length > 0, weights * ratio, 0.0)

    def get_config(self):
        return {**super().get_config(), "to": self.to}
