import keras
from keras import ops

from keras_mimo.losses.targets import check_num_classes
from keras_mimo.losses.targets import one_hot_targets
from keras_mimo.utils.dtypes import at_least_float32


class ConfusionCounts(keras.metrics.Metric):
    """Base class: counts hits, labels and predictions of every class.

    The prediction is the class with the largest entry, so logits and
    probabilities give the same. The counts are `float32`, exact up to 2^24
    (16.8 million) samples of a class.

    Args:
        num_classes: Integer, at least 2.
        name: Optional name for the metric.
        dtype: As for every Keras metric; `float32` at least.
    """

    def __init__(self, num_classes, name=None, dtype=None):
        super().__init__(name=name, dtype=at_least_float32(dtype))
        self.num_classes = check_num_classes(num_classes)
        self.hits, self.labels, self.predictions = (
            self.add_variable(
                shape=(self.num_classes,), initializer="zeros", name=name
            )
            for name in ("hits", "labels", "predictions")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: Integer labels of shape `(...)` or `(..., 1)`, or one-hot
                labels of shape `(..., num_classes)`.
            y_pred: Logits or probabilities of shape `(..., num_classes)`.
            sample_weight: Optional weights of shape `(...)` or `(..., 1)`.
                Defaults to 1 for each sample.
        """
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred)
        labels = one_hot_targets(y_true, y_pred, self.num_classes, self.dtype)
        predictions = ops.one_hot(
            ops.argmax(y_pred, axis=-1), self.num_classes, dtype=self.dtype
        )
        hits = labels * predictions
        if sample_weight is not None:
            weights = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            if len(weights.shape) < len(labels.shape):
                weights = ops.expand_dims(weights, axis=-1)
            hits, labels, predictions = (
                weights * x for x in (hits, labels, predictions)
            )
        axes = tuple(range(len(y_pred.shape) - 1))
        self.hits.assign_add(ops.sum(hits, axis=axes))
        self.labels.assign_add(ops.sum(labels, axis=axes))
        self.predictions.assign_add(ops.sum(predictions, axis=axes))

    def counts(self):
        """Tensors of the hits, the labels and the predictions of each class."""
        variables = self.hits, self.labels, self.predictions
        return [ops.convert_to_tensor(variable) for variable in variables]

    def recalls(self):
        """Recall of every class so far.

        Returns:
            Tensor of shape `(num_classes,)`, NaN for a class without samples.
        """
        hits, labels, _ = self.counts()
        recalls = hits / ops.where(labels > 0, labels, 1.0)
        return ops.where(labels > 0, recalls, float("nan"))

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


def mean_where(values, mask):
    """Mean of the values that the mask admits; NaN if it admits none."""
    count = ops.sum(ops.cast(mask, values.dtype))
    # A product with the mask would keep the NaN of what is left out.
    total = ops.sum(ops.where(mask, values, 0.0))
    mean = total / ops.maximum(count, 1.0)
    return ops.where(count > 0, mean, float("nan"))
