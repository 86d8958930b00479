import keras
import numpy as np
from keras import ops

from keras_mimo.losses.class_counts import check_class_counts
from keras_mimo.metrics.confusion_counts import ConfusionCounts
from keras_mimo.metrics.confusion_counts import mean_where
from keras_mimo.utils.arguments import check_number

_SPLITS = ("many", "medium", "few")


@keras.saving.register_keras_serializable(package="keras_mimo")
class ShotAccuracy(ConfusionCounts):
    """Balanced accuracy over the classes with many, medium or few images.

    Classes are split by their number of training images: many above 100, few
    below 20, medium from 20 to 100. The result is the mean recall of those
    classes of the split that have samples, and NaN where there are none, a
    split without classes included. Predictions may be any class. Counts are
    `float32`, exact up to 2^24 samples of a class.

    Args:
        class_counts: Sequence of the number of training images of each class,
            as `keras_mimo.datasets.class_counts` gives it.
        split: `"many"`, `"medium"` or `"few"`.
        many: Number of images that a class of the split `"many"` exceeds.
            Defaults to `100`.
        few: Number of images that a class of the split `"few"` falls short of.
            Defaults to `20`.
        name: Name for the metric. Defaults to `"<split>_shot_accuracy"`.
        dtype: As for every Keras metric; `float32` at least.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If `split` is none of the three, or `few` exceeds `many`.

    Example:

    ```python
    metrics = [
        keras_mimo.metrics.ShotAccuracy(counts, split)
        for split in ("many", "medium", "few")
    ]
    model.compile("adam", loss=loss, metrics=metrics)
    ```

    Reference:

    - [Liu et al., 2019, Large-Scale Long-Tailed Recognition in an Open World](
        https://arxiv.org/abs/1904.05160)
    """

    def __init__(
        self, class_counts, split, many=100, few=20, name=None, dtype=None
    ):
        if split not in _SPLITS:
            raise ValueError(
                f"`split` must be one of {_SPLITS}. Received: split={split!r}"
            )
        counts = check_class_counts(class_counts)
        super().__init__(
            len(counts), name=name or f"{split}_shot_accuracy", dtype=dtype
        )
        self.class_counts = counts
        self.split = split
        self.many = check_number("many", many, positive=False)
        self.few = check_number("few", few, positive=False)
        if self.few > self.many:
            raise ValueError(
                "`few` must not exceed `many`. "
                f"Received: few={few}, many={many}"
            )

    @property
    def classes(self):
        """List of the classes of the split."""
        counts = np.asarray(self.class_counts)
        chosen = {
            "many": counts > self.many,
            "medium": (counts >= self.few) & (counts <= self.many),
            "few": counts < self.few,
        }[self.split]
        return np.flatnonzero(chosen).tolist()

    def result(self):
        chosen = np.isin(np.arange(self.num_classes), self.classes)
        _, labels, _ = self.counts()
        present = ops.logical_and(labels > 0, ops.convert_to_tensor(chosen))
        return mean_where(self.recalls(), present)

    def get_config(self):
        config = super().get_config()
        del config["num_classes"]
        return {
            **config,
            "class_counts": list(self.class_counts),
            "split": self.split,
            "many": self.many,
            "few": self.few,
        }
