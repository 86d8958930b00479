import functools

import keras
from keras import ops
from keras import tree

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.targets import one_hot_targets
from keras_mimo.training.replicas import whole_mean
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import loss_options

_CATEGORICAL = (
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.categorical_focal_crossentropy,
)
_BINARY = (
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
)
# What a probability that is rounded to 0 counts as, by AGM's released code.
_SMALLEST = 1e-8


class TrueClass:
    """What outputs give to the true class, of the batch at hand.

    Args:
        losses: Dict from the names of outputs to the losses that they are
            compiled with.

    Raises:
        ValueError: If a loss is not one of classification.
    """

    def __init__(self, losses):
        self._probabilities = {
            name: _probability(name, loss) for name, loss in losses.items()
        }

    def __call__(self, y, outputs):
        """The mean probability of the true class, and the cross-entropy.

        Args:
            y: Dict from names to labels.
            outputs: Dict from names to logits, or to probabilities where the
                loss is of these.

        Returns:
            Two tensors of shape `(outputs,)`, of the whole batch: NaN for an
            output that no sample has.
        """
        scores, losses = [], []
        for name, output in outputs.items():
            mask = get_keras_mask(output)
            output = ops.cast(ops.stop_gradient(output), "float32")
            probability = self._probabilities[name](y[name], output)
            rows = ops.shape(probability)[0]
            if mask is None:
                mask = ops.ones((rows,), dtype="bool")
            mask = ops.reshape(mask, (rows, -1))[:, 0]
            loss = -ops.log(ops.maximum(probability, _SMALLEST))
            scores.append(whole_mean(ops.mean(probability, axis=-1), mask))
            losses.append(whole_mean(ops.mean(loss, axis=-1), mask))
        return ops.stack(scores), ops.stack(losses)


def _probability(name, loss):
    """Function of labels and an output: of shape `(batch, labels)`."""
    leaves = [leaf for leaf in tree.flatten(loss) if leaf is not None]
    kind = _kind(leaves[0]) if len(leaves) == 1 else None
    if kind is None:
        raise ValueError(
            "Modalities can be scored by the probability of the true class "
            "where the loss of each is one cross-entropy. Received: the output "
            f"{name!r} with loss={loss!r}"
        )
    binary, from_logits = kind
    if binary:
        return functools.partial(_of_labels, from_logits=from_logits)
    return functools.partial(_of_class, from_logits=from_logits)


def _kind(loss):
    """Whether a loss is a binary cross-entropy, and of logits, or `None`."""
    if isinstance(loss, ClassCountLoss):
        return False, True
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return False, False
    loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    from_logits = loss_options(loss).get("from_logits", False)
    if function in _BINARY:
        return True, from_logits
    return (False, from_logits) if function in _CATEGORICAL else None


def _of_class(labels, output, from_logits):
    if from_logits:
        output = ops.softmax(output)
    chosen = one_hot_targets(labels, output, output.shape[-1], "float32")
    return ops.sum(chosen * output, axis=-1, keepdims=True)


def _of_labels(labels, output, from_logits):
    """Of each of several labels, the probability of what is true of it."""
    if from_logits:
        output = ops.sigmoid(output)
    labels = ops.reshape(ops.cast(labels, "float32"), ops.shape(output))
    return labels * output + (1.0 - labels) * (1.0 - output)
