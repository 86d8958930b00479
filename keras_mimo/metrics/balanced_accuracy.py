import keras

from keras_mimo.metrics.confusion_counts import ConfusionCounts
from keras_mimo.metrics.confusion_counts import mean_where


@keras.saving.register_keras_serializable(package="keras_mimo")
class BalancedAccuracy(ConfusionCounts):
    """Mean over the classes of the share of samples classified rightly.

    Only classes with samples count, as in scikit-learn; NaN without samples.
    On a test set with as many samples of each class it is the accuracy. Counts
    are `float32`, exact up to 2^24 samples of a class.

    Args:
        num_classes: Integer, at least 2.
        name: Name for the metric. Defaults to `"balanced_accuracy"`.
        dtype: As for every Keras metric; `float32` at least.

    Raises:
        TypeError: If `num_classes` is no integer.
        ValueError: If it is less than 2.

    Example:

    ```python
    metric = keras_mimo.metrics.BalancedAccuracy(10)
    model.compile("adam", loss=loss, metrics=[metric])
    ```
    """

    def __init__(self, num_classes, name="balanced_accuracy", dtype=None):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        _, labels, _ = self.counts()
        return mean_where(self.recalls(), labels > 0)
