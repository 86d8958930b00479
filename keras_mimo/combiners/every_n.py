import keras
from keras import ops

from keras_mimo.combiners.wrapper import CombinerWrapper


@keras.saving.register_keras_serializable(package="keras_mimo")
class EveryN(CombinerWrapper):
    """Asks a combiner every `n` steps, and keeps its weights in between.

    Weights change more slowly than gradients. In the steps in between a model
    computes no Gramian: they cost one backward pass, by a branch in the
    compiled step.

    Only the outermost wrapper saves that: `EveryN(Smoothed(combiner))`, since
    `Smoothed(EveryN(combiner))` wants to see the Gramian of every step.

    An objective that is absent from a step in which the combiner is asked keeps
    its weight, and starts with the mean weight of the others.

    Args:
        combiner: A `BalancedGradientCombiner` that needs the Gramian.
        n: Positive integer. Defaults to `8`, as in PSMGD.

    Raises:
        ValueError: If `n` is not a positive integer, or if `combiner` does not
            need the Gramian: there is nothing to save.

    Example:

    ```python
    combiner = keras_mimo.combiners.EveryN(keras_mimo.MGDACombiner(), n=8)
    ```

    Reference:

    - [PSMGD: Periodic Stochastic Multi-Gradient Descent](
        https://arxiv.org/abs/2412.10961)
    """

    needs = "gramian"

    def __init__(self, combiner, n=8, **kwargs):
        super().__init__(combiner, **kwargs)
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"`n` must be a positive integer. Received: n={n}")
        if combiner.needs != "gramian":
            raise ValueError(
                "`combiner` must need the Gramian, of which `EveryN` saves the "
                f"computation. Received: combiner={combiner}"
            )
        self.n = n

    def build(self, objective_names):
        super().build(objective_names)
        count = len(objective_names)
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )
        self.kept, self.known = (
            self.add_weight(
                name=name, shape=(count,), initializer="zeros", trainable=False
            )
            for name in ("kept", "known")
        )

    def is_periodic(self):
        return True

    def call(self, losses, gramian=None, active=None, training=True):
        kept = ops.cast(ops.convert_to_tensor(self.kept), losses.dtype)
        if gramian is not None:
            due = self.due()
            with self.combiner._state_changes_if(due):
                fresh = self.combiner(losses, gramian, active, training)
            kept = ops.where(due, self._renewed(kept, fresh, active), kept)
        self.kept.assign(kept)
        self.step.assign(ops.mod(self.step + 1, self.n))
        return kept

    def _renewed(self, kept, fresh, active):
        known = ops.convert_to_tensor(self.known) > 0
        self.known.assign(ops.cast(known | active, self.known.dtype))
        count = ops.sum(ops.cast(active, fresh.dtype))
        mean = ops.sum(fresh) / ops.maximum(count, 1.0)
        return ops.where(active, fresh, ops.where(known, kept, mean))

    def get_config(self):
        return {**super().get_config(), "n": self.n}
