import keras
import numpy as np

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.class_counts import fill_empty


@keras.saving.register_keras_serializable(package="keras_mimo")
class BalancedSoftmax(ClassCountLoss):
    """Cross-entropy of a softmax whose terms are weighted by class size.

    `loss = -log(n_y * exp(z_y) / sum_c n_c * exp(z_c))` for logits `z` and
    class sizes `n`. It has the value of `keras_mimo.losses.LogitAdjusted` with
    `tau=1`. Predict with `argmax(logits)`, unchanged.

    A class with a count of 0 is given the smallest count that is not 0.

    Args:
        class_counts: Sequence of the number of training images of each class,
            as `keras_mimo.datasets.class_counts` gives it.
        reweight: `None`, or a float in `[0, 1)` that adds the class weights of
            `keras_mimo.losses.ClassBalanced`. Defaults to `None`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"balanced_softmax"`.
        dtype: As for every Keras loss; computed in `float32` at least.

    Call arguments:
        y_true: Integer labels of shape `(...)` or `(..., 1)`, or one-hot labels
            of shape `(..., C)`.
        y_pred: Logits of shape `(..., C)`.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range, or a shape does not fit.

    Example:

    ```python
    loss = keras_mimo.losses.BalancedSoftmax([5000, 500, 50])
    model.compile("adam", loss=loss)
    ```

    Reference:

    - [Ren et al., 2020, Balanced Meta-Softmax for Long-Tailed Visual
      Recognition](https://arxiv.org/abs/2007.10740)
    """

    def __init__(self, class_counts, name="balanced_softmax", **kwargs):
        super().__init__(class_counts, name=name, **kwargs)

    def adjust(self, y_pred, targets):
        return y_pred + self.constant(np.log(fill_empty(self.class_counts)))
