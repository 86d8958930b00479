"""What a `compute_loss()` that the user overrode makes of the objectives."""

import contextvars

from keras import ops
from keras import tree

_current = contextvars.ContextVar("current", default=None)


def call_in_progress(model):
    """The `OverriddenLoss` of a model that is being called, or `None`."""
    call = _current.get()
    return call if call is not None and call.model is model else None


class OverriddenLoss:
    """A step's call of an override of `compute_loss()`.

    Args:
        model: A `TrainingStep`.
        probe: Scalar that is added to the objectives in what
            `super().compute_loss()` returns, whose own gradient is stopped. The
            gradient of the total with respect to variables is then that of what
            the override adds, and with respect to the probe it is how the total
            depends on the objectives. Defaults to `0.0`.

    Attributes:
        asked: List with an entry for each call of `super().compute_loss()`:
            the outputs that it was given, and their losses.
    """

    def __init__(self, model, probe=0.0):
        self.model = model
        self.asked = []
        self._probe = probe

    def __call__(self, x, y, y_pred, sample_weight):
        token = _current.set(self)
        try:
            return self.model._compute_loss(
                x, y, y_pred, sample_weight, training=True
            )
        finally:
            _current.reset(token)

    def answer(self, y_pred, losses, scalar):
        """What `super().compute_loss()` returns for the objectives."""
        self.asked.append((y_pred, losses))
        return ops.stop_gradient(scalar) + self._probe

    def objective_losses(self, y_pred):
        """The losses of the model's own outputs.

        Raises:
            ValueError: If the override did not ask for these, and once.
        """
        if not self.asked:
            raise refusal(self.model, "which does not call it")
        if len(self.asked) > 1:
            raise refusal(self.model, "which calls it more than once")
        ((given, losses),) = self.asked
        if not _is_same(given, y_pred):
            raise refusal(self.model, "which gives it other outputs")
        return losses


def refusal(model, reason):
    """The error where gradients of objectives are not to be had."""
    return ValueError(
        "A `combiner` of gradients needs a `compute_loss()` whose value "
        "depends on that of one `super().compute_loss()`, called with the "
        "outputs of the model. Use a combiner of losses, or an objective of "
        f"your own. Received: combiner={model.combiner} and "
        f"{type(model).__name__}.compute_loss(), {reason}"
    )


def _is_same(given, y_pred):
    try:
        tree.assert_same_structure(given, y_pred)
    except (TypeError, ValueError):
        return False
    pairs = zip(tree.flatten(given), tree.flatten(y_pred), strict=True)
    return all(a is b for a, b in pairs)
