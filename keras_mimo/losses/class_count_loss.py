import keras
from keras import ops

from keras_mimo.losses.class_counts import check_class_counts
from keras_mimo.losses.class_counts import effective_number_weights
from keras_mimo.losses.targets import one_hot_targets
from keras_mimo.utils.dtypes import at_least_float32


class ClassCountLoss(keras.losses.Loss):
    """Base class: a cross-entropy that knows the size of every class.

    A subclass changes the logits in `adjust()`. It is computed in `float32` at
    least, whatever the policy.

    Args:
        class_counts: Sequence of the number of training images of each class.
        reweight: `None` for no class weights, or a float in `[0, 1)`: each
            sample is weighted by its class, see
            `keras_mimo.losses.ClassBalanced`.
            `keras_mimo.callbacks.DeferredReweighting` sets it during training.
            Defaults to `None`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name for the loss.
        dtype: As for every Keras loss.
    """

    def __init__(
        self,
        class_counts,
        reweight=None,
        reduction="sum_over_batch_size",
        name=None,
        dtype=None,
    ):
        super().__init__(
            name=name, reduction=reduction, dtype=at_least_float32(dtype)
        )
        self.class_counts = check_class_counts(class_counts)
        self.reweight = reweight

    @property
    def reweight(self):
        return self._reweight

    @reweight.setter
    def reweight(self, beta):
        self._reweight = check_beta("reweight", beta)

    def adjust(self, y_pred, targets):
        """The logits that enter the softmax."""
        return y_pred

    def call(self, y_true, y_pred):
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        targets = one_hot_targets(
            y_true, y_pred, len(self.class_counts), self.dtype
        )
        y_pred = self.adjust(y_pred, targets)
        losses = -ops.sum(targets * ops.log_softmax(y_pred, axis=-1), axis=-1)
        if self.reweight is None:
            return losses
        weights = effective_number_weights(self.class_counts, self.reweight)
        return losses * ops.sum(targets * self.constant(weights), axis=-1)

    def constant(self, array):
        return ops.convert_to_tensor(array, dtype=self.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "reweight": self.reweight,
            "dtype": self.dtype,
        }


def check_beta(argument, beta):
    """`None`, or a float from 0 up to, and not, 1."""
    if beta is None:
        return None
    try:
        valid = 0 <= beta < 1
    except TypeError:
        raise TypeError(
            f"`{argument}` must be None or a number in [0, 1). "
            f"Received: {argument}={beta!r}"
        ) from None
    if not valid:
        raise ValueError(
            f"`{argument}` must be None or in [0, 1). "
            f"Received: {argument}={beta!r}"
        )
    return float(beta)
