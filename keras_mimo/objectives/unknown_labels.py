import keras
import numpy as np
from keras import ops


class UnknownLabels(keras.metrics.Metric):
    """Counts the labels that are no classes: a metric that logs nothing.

    A step can't raise for the labels that it is compiled with, but a metric is
    carried through it on every backend.

    Args:
        outputs: List of the names of the outputs that have class ids, `None`
            where a name is not known.
        num_classes: List of integers, one for each of them.
    """

    def __init__(self, outputs, num_classes):
        super().__init__(name="unknown_labels")
        self._outputs = outputs
        self._num_classes = num_classes
        self._counts = self.add_variable(
            (len(outputs),), keras.initializers.Zeros(), "int32", name="counts"
        )

    def update_state(self, counts):
        # In NumPy it is known that there are none.
        if not all(type(count) is int for count in counts):
            self._counts.assign_add(ops.stack(counts))

    def result(self):
        return {}

    def reset_state(self):
        """Nothing: Keras resets metrics before `check()` has seen them."""

    def check(self):
        """Raises `ValueError` if labels were no classes since the last time."""
        counts = ops.convert_to_numpy(self._counts)
        if not counts.any():
            return
        self._counts.assign(np.zeros_like(counts))
        output, num_classes, count = next(
            found
            for found in zip(
                self._outputs, self._num_classes, counts, strict=True
            )
            if found[-1]
        )
        where = f" of the output {output!r}" if output else ""
        raise ValueError(
            f"Labels{where} must be class ids from 0 to {num_classes - 1}. "
            f"Received: {count} other labels in the batches so far. Those that "
            "are to be left out are told by `missing_label` of the objectives "
            "or `ignore_class` of the loss."
        )
