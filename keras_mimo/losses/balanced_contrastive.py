import keras
from keras import ops

from keras_mimo.losses.targets import check_num_classes
from keras_mimo.losses.targets import one_hot_targets
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class BalancedContrastive(keras.losses.Loss):
    """Supervised contrastive loss in which every class counts alike.

    Every view of every sample is an anchor. It is drawn to the other views and
    samples of its class and to the prototype of its class. What it is pushed
    from is averaged class by class, so that large classes do not dominate, and
    each class takes part in every batch through its prototype. For an anchor
    `i` of class `y` with positives `P_i`, cosines `s` and temperature `t`:

    ```
    L_i = -1/|P_i| sum_{p in P_i} log(exp(s_ip / t) / D_i)
    D_i = sum_c 1/N_c(i) sum_{k in c, k != i} exp(s_ik / t)
    ```

    where `N_c(i)` is the number of terms of class `c`, its prototype included.
    The loss of a sample is the mean over its views.

    Args:
        num_classes: Integer, the number of classes `C`, at least 2.
        temperature: Positive float. Defaults to `0.1`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"balanced_contrastive"`.
        dtype: As for every Keras loss; computed in `float32` at least.

    Call arguments:
        y_true: Integer labels of shape `(batch,)` or `(batch, 1)`, or one-hot
            labels of shape `(batch, C)`.
        y_pred: Tensor of shape `(batch, views, D + C)`, or `(batch, D + C)` for
            one view. The first `D` entries are the features of the view, scaled
            to length 1. The last `C` are their cosines with the prototype of
            each class. `keras_mimo.layers.ContrastiveHead` gives just this.
            (The prototypes themselves have no batch axis, which Keras needs in
            an output.)

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range, or a shape does not fit.

    Example:

    ```python
    features = keras.ops.stack([encoder(x1), encoder(x2)], axis=1)
    head = keras_mimo.layers.ContrastiveHead(
        keras_mimo.layers.CosineClassifier(10)
    )
    model = keras.Model([x1, x2], head(features))
    model.compile(
        "sgd",
        loss={
            "logits": keras_mimo.losses.LogitAdjusted(counts),
            "contrast": keras_mimo.losses.BalancedContrastive(10),
        },
    )
    model.fit([view1, view2], {"logits": y, "contrast": y})
    ```

    Reference:

    - [Zhu et al., 2022, Balanced Contrastive Learning for Long-Tailed Visual
      Recognition](https://arxiv.org/abs/2207.09052)
    """

    def __init__(
        self,
        num_classes,
        temperature=0.1,
        reduction="sum_over_batch_size",
        name="balanced_contrastive",
        dtype=None,
    ):
        super().__init__(
            name=name, reduction=reduction, dtype=at_least_float32(dtype)
        )
        self.num_classes = check_num_classes(num_classes)
        self.temperature = check_number("temperature", temperature)

    def call(self, y_true, y_pred):
        y_true = ops.convert_to_tensor(y_true)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if len(y_pred.shape) == 2:
            y_pred = ops.expand_dims(y_pred, axis=1)
        dim = (y_pred.shape[-1] or 0) - self.num_classes
        if len(y_pred.shape) != 3 or dim < 1 or y_pred.shape[1] is None:
            raise ValueError(
                "`y_pred` must be of shape (batch, views, D + "
                f"{self.num_classes}): unit features and their cosines with "
                f"{self.num_classes} prototypes. "
                f"Received: y_pred.shape={tuple(y_pred.shape)}"
            )
        views = y_pred.shape[1]
        targets = one_hot_targets(
            y_true, y_pred[:, 0, dim:], self.num_classes, self.dtype
        )
        targets = ops.repeat(targets, views, axis=0)
        anchors = ops.reshape(y_pred, (-1, dim + self.num_classes))
        features = anchors[:, :dim]
        similar = ops.matmul(features, ops.transpose(features))
        losses = self._losses(
            targets,
            similar / self.temperature,
            anchors[:, dim:] / self.temperature,
        )
        return ops.mean(ops.reshape(losses, (-1, views)), axis=-1)

    def _losses(self, targets, similar, prototypes):
        counts = ops.sum(targets, axis=0)
        own = ops.sum(targets * counts, axis=-1)
        labels = ops.argmax(targets, axis=-1)
        same = ops.cast(labels[:, None] == labels[None, :], self.dtype)
        positions = ops.arange(ops.shape(targets)[0])
        itself = positions[:, None] == positions[None, :]

        # Positives: those of the class but the anchor, and the prototype: as
        # many as `own` counts, the anchor included.
        others = ops.where(itself, 0.0, same * similar)
        positive = ops.sum(others, axis=-1)
        positive = positive + ops.sum(targets * prototypes, axis=-1)

        # The prototype adds one to every class, the anchor takes one off its
        # own: no count is 0.
        terms = similar - ops.log(own[None, :] + 1.0 - same)
        terms = ops.where(itself, -1e30, terms)
        prototypes = prototypes - ops.log(counts + 1.0 - targets)
        denominator = ops.logsumexp(
            ops.concatenate([terms, prototypes], axis=-1), axis=-1
        )
        return denominator - positive / own

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "temperature": self.temperature,
            "dtype": self.dtype,
        }
