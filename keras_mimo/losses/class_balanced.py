import keras

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.class_count_loss import check_beta


@keras.saving.register_keras_serializable(package="keras_mimo")
class ClassBalanced(ClassCountLoss):
    """Cross-entropy weighted by the effective number of images of a class.

    The weight of a class with `n` images is proportional to
    `(1 - beta) / (1 - beta^n)`, and the mean weight over the classes is 1.
    `beta=0` weighs all alike; the closer `beta` is to 1, the closer the weights
    are to `1 / n`.

    With the reduction `"sum_over_batch_size"` the weighted losses are divided
    by the number of samples, not by the sum of the weights.

    A class with a count of 0 is given the smallest count that is not 0.

    Args:
        class_counts: Sequence of the number of training images of each class,
            as `keras_mimo.datasets.class_counts` gives it.
        beta: Float in `[0, 1)`, or `None` for no weights. Defaults to `0.9999`.
            `keras_mimo.callbacks.DeferredReweighting` changes it.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"class_balanced"`.
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
    loss = keras_mimo.losses.ClassBalanced([5000, 500, 50], beta=0.999)
    model.compile("adam", loss=loss)
    ```

    Reference:

    - [Cui et al., 2019, Class-Balanced Loss Based on Effective Number of
      Samples](https://arxiv.org/abs/1901.05555)
    """

    def __init__(
        self, class_counts, beta=0.9999, name="class_balanced", **kwargs
    ):
        beta = check_beta("beta", beta)
        super().__init__(class_counts, reweight=beta, name=name, **kwargs)

    def get_config(self):
        config = super().get_config()
        config["beta"] = config.pop("reweight")
        return config
