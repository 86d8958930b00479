import keras
from keras import ops
from keras import tree

from keras_mimo.utils._keras import get_loss
from keras_mimo.utils._keras import without_reduction


class PerSampleLoss:
    """The loss of every sample of a batch, before any reduction.

    Args:
        model: A model, whose compiled loss is the default: of its output, or of
            the fused one where its objectives are those of modalities.
        loss: Name of a loss, `keras.losses.Loss` or function, or `None`.

    Raises:
        ValueError: If there are several losses.
    """

    def __init__(self, model, loss):
        self._given = loss
        self._fused = None
        if loss is None:
            loss = getattr(model, "loss", None)
            objective = getattr(model, "objectives", None)
            objective = getattr(objective, "within", objective)
            self._fused = getattr(objective, "fused", None)
        leaves = [leaf for leaf in tree.flatten(loss) if leaf is not None]
        if len(leaves) > 1:
            raise ValueError(
                "`loss` must be one loss where the model is compiled with "
                "several: a function of the labels and the model's outputs "
                f"that returns the loss of each sample. Received: loss={loss}"
            )
        self._loss = (
            leaves[0]
            if leaves
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )

    def __call__(self, labels, y_pred):
        """Returns the losses, a tensor of shape `(n,)`.

        Args:
            labels: Tuple of labels as in the data, and of class ids.
            y_pred: What the model returned.
        """
        losses = self._losses(labels, y_pred)
        shape = ops.shape(losses)
        if len(shape) == 0:
            raise ValueError(
                "`loss` must return the loss of each sample. Received: "
                f"loss={self._loss}, which returned a scalar"
            )
        if len(shape) > 1:
            losses = ops.mean(losses, axis=tuple(range(1, len(shape))))
        return losses

    def _losses(self, labels, y_pred):
        y, ids = map(ops.convert_to_tensor, labels)
        if isinstance(y_pred, dict):
            y_pred = y_pred.get(self._fused, y_pred)
        outputs = tree.flatten(y_pred)
        if len(outputs) > 1:
            if not callable(self._given):
                raise ValueError(
                    "`loss` must be a function of the labels and the model's "
                    "outputs that returns the loss of each sample, where the "
                    f"model has several outputs. Received: loss={self._given} "
                    f"for {len(outputs)} outputs"
                )
            return self._given(y, y_pred)
        function = without_reduction(get_loss(self._loss, y, outputs[0]))
        sparse = keras.losses.sparse_categorical_crossentropy
        if getattr(function, "fn", None) is sparse:
            y = ids
        return function(y, outputs[0])
