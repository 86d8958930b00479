import keras
from keras import ops

from keras_mimo.combiners.rows import RowCombiner
from keras_mimo.combiners.wrapper import CombinerWrapper
from keras_mimo.utils.arguments import check_fraction
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class MoCo(RowCombiner, CombinerWrapper):
    """Has a combiner weigh moving averages of the gradients.

    Weights that depend on the noise of a batch, times the same batch's
    gradients, are a biased direction. With the averages

    `y_k(t) = y_k(t-1) + rate / t^decay * (g_k(t) - y_k(t-1))`

    corrected for their start as in `Smoothed`, the combiner gets their Gramian
    and the update is `sum_k w_k * y_k`. `Smoothed(of="gramian")` averages the
    Gramian, in which the noise of the gradients' lengths remains, and weighs
    the gradients of the batch.

    The paper moves the weights by one projected step on `||sum_k w_k * y_k||^2`
    at a time; `MoCo(MGDACombiner())` takes the weights that these lead to. The
    released code has no correction for the start, and first scales each
    gradient to the length of its loss.

    The averages take the memory of K copies of the balanced variables: pass
    `balanced_variables="backbone"` to `compile()` to leave heads out, whose
    gradients are then those of the batch. An objective that is absent from a
    batch keeps its average, and is not weighted. `gradients_at` is refused.

    Args:
        combiner: The `BalancedGradientCombiner` that gives the weights.
        rate: Float in `(0, 1]`, the share of the first steps' gradients in the
            averages. Defaults to `0.5`, as in the released code.
        decay: Non-negative float: how the share falls with the number of steps.
            Defaults to `0.5`, as in the released code; 0 keeps it, for averages
            that do not lag behind in a short training.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or as other wrappers.

    Reference:

    - [Mitigating Gradient Bias in Multi-objective Learning](
        https://arxiv.org/abs/2210.12624)
    """

    def __init__(self, combiner, rate=0.5, decay=0.5, **kwargs):
        super().__init__(combiner, **kwargs)
        self.rate = check_fraction("rate", check_number("rate", rate))
        self.decay = check_number("decay", decay, positive=False)

    def build(self, objective_names):
        super().build(objective_names)
        self.steps, self.mass = (
            self.add_weight(
                name=name,
                shape=(len(self.objective_names),),
                initializer="zeros",
                trainable=False,
            )
            for name in ("steps", "mass")
        )

    def see(self, rows, active, changed):
        steps = self.steps + 1.0
        share = self.rate / steps**self.decay
        # An average is total / mass, so that its start weighs nothing.
        mass = self.mass + share * (1.0 - self.mass)
        averages = []
        for matrix, variable in zip(rows, self.kept, strict=True):
            part = ops.cast(share, matrix.dtype)[:, None]
            total = ops.cast(ops.convert_to_tensor(variable), matrix.dtype)
            total = total + part * (matrix - total)
            self.advance(variable, total, changed)
            averages.append(total / ops.cast(mass, matrix.dtype)[:, None])
        self.advance(self.mass, mass, changed)
        self.advance(self.steps, steps, changed)
        return averages, averages

    def call(self, losses, gramian=None, active=None, training=True):
        return self.combiner(losses, gramian, active, training)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "decay": self.decay}
