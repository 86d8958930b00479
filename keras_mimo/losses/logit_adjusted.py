import keras
import numpy as np

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.class_counts import fill_empty
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class LogitAdjusted(ClassCountLoss):
    """Cross-entropy of logits shifted by the logarithm of the class prior.

    `loss = CE(y, logits + tau * log(prior))`, where the prior of a class is its
    share of the training images. Trained so, the logits themselves are those of
    a balanced data set: predict with `argmax(logits)`, unchanged.

    A class with a count of 0 gets the prior of the rarest class that has
    images: its loss stays finite, and training still lowers its logit.

    Args:
        class_counts: Sequence of the number of training images of each class,
            as `keras_mimo.datasets.class_counts` gives it.
        tau: Non-negative float, how far the logits are shifted; 0 is plain
            cross-entropy. Defaults to `1.0`.
        reweight: `None`, or a float in `[0, 1)` that adds the class weights of
            `keras_mimo.losses.ClassBalanced`. Defaults to `None`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"logit_adjusted"`.
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
    counts = keras_mimo.datasets.class_counts(y_train)
    model.compile("adam", loss=keras_mimo.losses.LogitAdjusted(counts))
    ```

    Reference:

    - [Menon et al., 2021, Long-tail learning via logit adjustment](
        https://arxiv.org/abs/2007.07314)
    """

    def __init__(self, class_counts, tau=1.0, name="logit_adjusted", **kwargs):
        super().__init__(class_counts, name=name, **kwargs)
        self.tau = check_number("tau", tau, positive=False)

    def adjust(self, y_pred, targets):
        counts = fill_empty(self.class_counts)
        shift = self.tau * np.log(counts / counts.sum())
        return y_pred + self.constant(shift)

    def get_config(self):
        return {**super().get_config(), "tau": self.tau}
