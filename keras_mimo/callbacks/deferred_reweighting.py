import operator

import keras

from keras_mimo.losses.class_count_loss import ClassCountLoss
from keras_mimo.losses.class_count_loss import check_beta


class DeferredReweighting(keras.callbacks.Callback):
    """Weighs the classes only once the features have been learned.

    From epoch `start` on, every loss of the model that takes `class_counts`
    (`LDAM`, `BalancedSoftmax`, `LogitAdjusted`, `ClassBalanced`) weighs its
    samples as `ClassBalanced` does; before, none does. With `LDAM` it is the
    schedule of its paper, with `ClassBalanced` the deferred cross-entropy of
    the same.

    The model is not compiled again, and the optimizer goes on as it was. Its
    training and test functions are made anew at the switch, so that step takes
    as long as the first. (A variable in the loss would not need that, but on
    JAX a compiled step takes it for a constant.)

    The weights are part of the loss's configuration. So a model that is saved
    after the switch and loaded has them still.

    Args:
        start: Non-negative integer, the first epoch with weights, counted from
            0 as in `fit()`. The paper starts after 80 % of the epochs.
        beta: Float in `[0, 1)`, see `ClassBalanced`. Defaults to `0.9999`.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range; in `fit()`, if the model
            has no loss with `class_counts`.

    Example:

    ```python
    model.compile("sgd", loss=keras_mimo.losses.LDAM(counts))
    deferred = keras_mimo.callbacks.DeferredReweighting(start=160)
    model.fit(x, y, epochs=200, callbacks=[deferred])
    ```

    Reference:

    - [Cao et al., 2019, Learning Imbalanced Datasets with
      Label-Distribution-Aware Margin Loss](https://arxiv.org/abs/1906.07413)
    """

    def __init__(self, start, beta=0.9999):
        super().__init__()
        try:
            self.start = operator.index(start)
        except TypeError:
            raise TypeError(
                "`start` must be a non-negative integer. "
                f"Received: start={start!r}"
            ) from None
        if self.start < 0:
            raise ValueError(
                "`start` must be a non-negative integer. "
                f"Received: start={start!r}"
            )
        if beta is None:
            raise TypeError("`beta` must be a number. Received: beta=None")
        self.beta = check_beta("beta", beta)

    def on_train_begin(self, logs=None):
        if not self._losses():
            raise ValueError(
                "`DeferredReweighting` needs a loss with `class_counts`, such "
                f"as `LDAM`. Received: loss={self.model.loss!r}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        beta = self.beta if epoch >= self.start else None
        changed = [loss for loss in self._losses() if loss.reweight != beta]
        for loss in changed:
            loss.reweight = beta
        if changed:
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)

    def _losses(self):
        losses = keras.tree.flatten(self.model.loss)
        return [loss for loss in losses if isinstance(loss, ClassCountLoss)]
