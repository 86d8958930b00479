from keras import ops

from keras_mimo import gradients
from keras_mimo.combiners.combiner import BalancedGradientCombiner


class CoordinateCombiner(BalancedGradientCombiner):
    """Base class of combiners that treat every coordinate on its own.

    What they do can't be said in K weights. `combine_coordinates()` gets the
    gradients of the objectives with respect to one variable and returns its
    update. `call()` gives the weights of the variables that are not balanced.
    """

    needs = "gradients"

    def combine(self, rows, active=None, training=True):
        """Combines gradients.

        If one of them, or their sum, is not finite the result is the sum, not
        finite either, so that the optimizer and the logs see it.

        Args:
            rows: Tensor of shape `(K, P)`, the gradients. Inside a model, with
                respect to one variable, of the objectives that depend on it.
            active: Optional boolean tensor of shape `(K,)`. Defaults to all.
            training: Boolean. With `False`, nothing is random.

        Returns:
            Tensor of shape `(P,)`.
        """
        rows = ops.convert_to_tensor(rows)
        if active is None:
            active = ops.ones((rows.shape[0],), dtype="bool")
        active = ops.cast(active, "bool")
        rows = ops.where(active[:, None], rows, ops.zeros_like(rows))
        total = gradients.sum_rows(rows)
        combined = self.combine_coordinates(rows, active, training)
        return ops.where(ops.all(ops.isfinite(total)), combined, total)

    def combine_coordinates(self, rows, active, training):
        """Combines finite gradients; implemented by subclasses.

        Args:
            rows: Tensor of shape `(K, P)`, 0 where not active.
            active: Boolean tensor of shape `(K,)`.
            training: Boolean.

        Returns:
            Tensor of shape `(P,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `combine_coordinates()`."
        )
