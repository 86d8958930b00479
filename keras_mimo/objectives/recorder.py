import contextlib
import functools
from typing import Any
from typing import NamedTuple

import keras
from keras import ops
from keras import tree

from keras_mimo import gradients
from keras_mimo.objectives.class_ids import count_classes
from keras_mimo.objectives.class_ids import replace_unknown
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import get_loss
from keras_mimo.utils._keras import loss_options
from keras_mimo.utils.errors import MisfitError


class Labels(NamedTuple):
    """The labels of an output, and what is wrong with them.

    Args:
        given: The labels.
        known: The labels, with a class for what is none.
        num_classes: Integer, or `None` where labels are no class ids.
        unknown: Scalar, how many are no classes.
    """

    given: Any
    known: Any
    num_classes: int | None
    unknown: Any


class Record(NamedTuple):
    """What a recorder keeps of one call.

    Args:
        recorder: The `Recorder`.
        values: List of the unweighted values of its losses.
        present: Boolean scalar, whether a sample takes part, or `None` where
            all do.
        labels: `Labels`.
        total: Scalar, the sum that Keras gets.
        size: Number of samples, `None` where a compiler does not know it.
    """

    recorder: keras.losses.Loss
    values: Any
    present: Any
    labels: Labels
    total: Any
    size: Any


class Recorder(keras.losses.Loss):
    """Computes the losses of one output for Keras and keeps each of them.

    Keras sums the losses of a model; balancing needs them one by one. A
    recorder takes the place of the user's loss, so that masks, sample weights,
    reductions and metric names remain those of Keras.

    Args:
        losses: List of losses (strings, functions, `keras.losses.Loss`) that
            apply to one output.
        weights: List of floats, one per loss.
        sink: List that receives a `Record` at each call.
        output: Name of the output, or `None` where it is not known.
        weigh_sum: Boolean. Whether the returned sum is weighted. `False` leaves
            it to Keras, which logs a loss before it weighs it.
    """

    def __init__(self, losses, weights, sink, output, weigh_sum):
        self.losses = losses
        self._objects = None
        self.loss_names = [name_of(loss) for loss in losses]
        super().__init__(name="_".join(self.loss_names), reduction=None)
        self.weights = weights
        self.sink = sink
        self.output = output
        self.weigh_sum = weigh_sum

    def __call__(self, y_true, y_pred, sample_weight=None):
        with self._explained(self.name, y_true, y_pred, sample_weight):
            losses = self._resolved(y_true, y_pred)
            labels = self._labels(losses, y_true, y_pred)
        y_true = labels.known
        values = [
            self._value(loss, name, y_true, y_pred, sample_weight)
            for loss, name in zip(losses, self.loss_names, strict=True)
        ]
        present = self._present(y_true, y_pred, sample_weight)
        return self._record(values, present, labels, values, y_pred)

    def _record(self, values, present, labels, losses, y_pred):
        """Keeps the values of a call, and returns what Keras is to have."""
        total = sum(self.weigh(losses) if self.weigh_sum else losses)
        size = tree.flatten(y_pred)[0].shape[0]
        self.sink.append(Record(self, values, present, labels, total, size))
        return total

    def _resolved(self, y_true, y_pred):
        """The losses that strings and functions stand for."""
        if self._objects is None:
            self._objects = [
                get_loss(loss, y_true, y_pred) for loss in self.losses
            ]
        return self._objects

    def _labels(self, losses, y_true, y_pred):
        num_classes = count_classes(losses, y_true, y_pred)
        known, unknown = self._known_labels(y_true, num_classes)
        return Labels(y_true, known, num_classes, unknown)

    @functools.cached_property
    def _ignored(self):
        return ignored_classes(self.losses)

    def _known_labels(self, y_true, num_classes):
        """The labels with a class for what is none, and its number."""
        allowed = self._ignored
        for record in self.sink:
            given, known, classes, _ = record.labels
            if given is not y_true:
                continue
            others = record.recorder._ignored
            if (classes, others) == (num_classes, allowed):
                # One label for several outputs is looked at once.
                return known, 0
        return replace_unknown(y_true, num_classes, allowed)

    def weigh(self, values):
        """The objectives: each loss times its weight."""
        return [
            _weighted(value, weight)
            for value, weight in zip(values, self.weights, strict=True)
        ]

    def _present(self, y_true, y_pred, sample_weight):
        parts = [get_keras_mask(y_pred), sample_weight]
        parts += [y_true != label for label in self._ignored]
        samples = [_any_in_sample(part) for part in parts if part is not None]
        if not samples:
            return None
        return ops.any(functools.reduce(ops.logical_and, samples))

    def _value(self, loss, name, y_true, y_pred, sample_weight):
        with self._explained(name, y_true, y_pred, sample_weight):
            value = loss(y_true, y_pred, sample_weight=sample_weight)
        if len(value.shape) != 0:
            raise ValueError(
                "An objective must be a scalar: use a loss whose `reduction` "
                "is not None. "
                f"Received: loss={name!r}, which returned a tensor of shape "
                f"{tuple(value.shape)}"
            )
        if getattr(loss, "reduction", None) == "sum":
            return gradients.engine().part_of_sum(value)
        return value

    @contextlib.contextmanager
    def _explained(self, name, y_true, y_pred, sample_weight):
        try:
            yield
        # Each backend has errors of its own for labels that do not fit.
        except Exception as error:
            raise MisfitError(
                f"The `loss` {name!r}{self._where()} failed. "
                f"Received: {_describe('labels', y_true)}, "
                f"{_describe('predictions', y_pred)}, "
                f"{_describe('sample_weight', sample_weight)}: {error}"
            ) from error

    def _where(self):
        return f" of the output {self.output!r}" if self.output else ""


def ignored_classes(losses):
    """The class ids that losses leave out."""
    found = {getattr(loss, "ignore_class", None) for loss in losses}
    # Keras 3.16 has no such attribute.
    found |= {loss_options(loss).get("ignore_class") for loss in losses}
    return found - {None}


def _weighted(value, weight):
    if not isinstance(weight, (int, float)):
        # A variable, or what has a dtype, which may be wider than the loss'.
        return value * ops.cast(weight, value.dtype)
    return value if weight == 1.0 else value * weight


def _any_in_sample(part):
    part = ops.cast(part, "bool")
    return ops.any(part, axis=tuple(range(1, len(part.shape))))


def _describe(title, tensor):
    if not hasattr(tensor, "dtype"):
        return f"no {title}" if tensor is None else f"{title} {tensor}"
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return f"{title} of shape {tuple(tensor.shape)} and dtype {dtype}"


def name_of(loss):
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(
        loss, "__name__", type(loss).__name__
    )
