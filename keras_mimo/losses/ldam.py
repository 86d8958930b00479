import keras

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.class_counts import fill_empty
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class LDAM(ClassCountLoss):
    """Cross-entropy with a margin that is larger for rarer classes.

    `loss = CE(y, scale * (logits - margin_y * onehot(y)))`. The margin of a
    class with `n` images is proportional to `n^(-1/4)`, and that of the rarest
    class is `max_margin`.

    The margin is meant for cosines. Let the model end with
    `keras_mimo.layers.CosineClassifier(units, scale=1.0)`: the loss scales them
    itself.

    The paper re-weights the classes in the last fifth of training. Give `fit()`
    the callback `keras_mimo.callbacks.DeferredReweighting` for that.

    A class with a count of 0 gets the margin `max_margin`.

    Args:
        class_counts: Sequence of the number of training images of each class,
            as `keras_mimo.datasets.class_counts` gives it.
        max_margin: Positive float, the margin of the rarest class.
            Defaults to `0.5`.
        scale: Positive float that multiplies the logits after the margin is
            taken. Defaults to `30.0`.
        reweight: `None`, or a float in `[0, 1)` that adds the class weights of
            `keras_mimo.losses.ClassBalanced`. Defaults to `None`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"ldam"`.
        dtype: As for every Keras loss; computed in `float32` at least.

    Call arguments:
        y_true: Integer labels of shape `(...)` or `(..., 1)`, or one-hot labels
            of shape `(..., C)`.
        y_pred: Cosines (or other unscaled logits) of shape `(..., C)`.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range, or a shape does not fit.

    Example:

    ```python
    model.compile("sgd", loss=keras_mimo.losses.LDAM([5000, 500, 50]))
    deferred = keras_mimo.callbacks.DeferredReweighting(start=160)
    model.fit(x, y, epochs=200, callbacks=[deferred])
    ```

    Reference:

    - [Cao et al., 2019, Learning Imbalanced Datasets with
      Label-Distribution-Aware Margin Loss](https://arxiv.org/abs/1906.07413)
    """

    def __init__(
        self, class_counts, max_margin=0.5, scale=30.0, name="ldam", **kwargs
    ):
        super().__init__(class_counts, name=name, **kwargs)
        self.max_margin = check_number("max_margin", max_margin)
        self.scale = check_number("scale", scale)

    def adjust(self, y_pred, targets):
        margins = fill_empty(self.class_counts) ** -0.25
        margins *= self.max_margin / margins.max()
        return self.scale * (y_pred - targets * self.constant(margins))

    def get_config(self):
        return {
            **super().get_config(),
            "max_margin": self.max_margin,
            "scale": self.scale,
        }
