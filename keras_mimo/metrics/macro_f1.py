import keras
from keras import ops

from keras_mimo.metrics.confusion_counts import ConfusionCounts
from keras_mimo.metrics.confusion_counts import mean_where


@keras.saving.register_keras_serializable(package="keras_mimo")
class MacroF1(ConfusionCounts):
    """Mean over the classes of the F1 score, from logits or probabilities.

    Classes that occur neither among labels nor among predictions are left out,
    as in scikit-learn; NaN without samples. (`keras.metrics.F1Score` counts
    them as 0, and takes one-hot labels only.) Counts are `float32`, exact up to
    2^24 samples of a class.

    Args:
        num_classes: Integer, at least 2.
        name: Name for the metric. Defaults to `"macro_f1"`.
        dtype: As for every Keras metric; `float32` at least.

    Raises:
        TypeError: If `num_classes` is no integer.
        ValueError: If it is less than 2.

    Example:

    ```python
    metric = keras_mimo.metrics.MacroF1(10)
    model.compile("adam", loss=loss, metrics=[metric])
    ```
    """

    def __init__(self, num_classes, name="macro_f1", dtype=None):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        hits, labels, predictions = self.counts()
        total = labels + predictions
        scores = 2 * hits / ops.where(total > 0, total, 1.0)
        return mean_where(scores, total > 0)
