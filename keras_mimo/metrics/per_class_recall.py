import operator

import keras

from keras_mimo.metrics.confusion_counts import ConfusionCounts


@keras.saving.register_keras_serializable(package="keras_mimo")
class PerClassRecall(ConfusionCounts):
    """The share of each class's samples that is classified rightly.

    The result is a dict with one number per class, `"<name>_<class>"`, because
    Keras logs numbers only. With many classes name the few to be logged, and
    read the others with `recalls()`, a vector. For the mean over all of them
    see `keras_mimo.metrics.BalancedAccuracy`.

    The recall of a class without samples is NaN. Counts are `float32`, exact up
    to 2^24 samples of a class.

    Args:
        num_classes: Integer, at least 2.
        classes: Sequence of the classes to be logged, integers below
            `num_classes`, or `None` for all. Defaults to `None`.
        name: Name, and start of each key of the result. Two outputs of a model
            need two names, because Keras logs the keys as they are.
            Defaults to `"recall"`.
        dtype: As for every Keras metric; `float32` at least.

    Raises:
        TypeError: If `num_classes` or a class is no integer.
        ValueError: If `num_classes` is less than 2, or a class does not exist.

    Example:

    ```python
    recall = keras_mimo.metrics.PerClassRecall(1000, classes=[0, 999])
    model.compile("adam", loss=loss, metrics=[recall])
    model.evaluate(x, y, return_dict=True)  # recall_0, recall_999
    every_class = keras.ops.convert_to_numpy(recall.recalls())
    ```
    """

    def __init__(self, num_classes, classes=None, name="recall", dtype=None):
        super().__init__(num_classes, name=name, dtype=dtype)
        self.classes = classes
        if classes is not None:
            self.classes = [self._check(c, classes) for c in classes]

    def result(self):
        recalls = self.recalls()
        classes = range(self.num_classes)
        if self.classes is not None:
            classes = self.classes
        return {f"{self.name}_{c}": recalls[c] for c in classes}

    def get_config(self):
        classes = None if self.classes is None else list(self.classes)
        return {**super().get_config(), "classes": classes}

    def _check(self, number, classes):
        try:
            number = operator.index(number)
        except TypeError:
            raise TypeError(
                "`classes` must be None or a sequence of integers. "
                f"Received: classes={classes!r}"
            ) from None
        if not 0 <= number < self.num_classes:
            raise ValueError(
                f"`classes` must be below num_classes={self.num_classes} and "
                f"not negative. Received: classes={classes!r}"
            )
        return number
