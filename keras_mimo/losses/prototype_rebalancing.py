import keras
from keras import ops

from keras_mimo.losses.targets import one_hot_targets
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class PrototypeRebalancing(keras.losses.Loss):
    """Draws the features of the weaker modalities to their class prototypes.

    Prototypical modal rebalance (PMR), beside a loss of the fused output. With
    `p_m` the softmax of a modality's logits and the score `s_m`, the mean of
    `p_m` at the true class over the batch:

    ```
    L = alpha * sum_m beta_m * CE(p_m) - mu * sum_m gamma_m * H(p_m)
    beta_m = clip(s_max / s_m - 1, 0, 1)
    gamma_m = max_j beta_j for the strongest modality, 0 for the others
    ```

    The logits are those of `keras_mimo.layers.PrototypeClassifier`, minus the
    distances to prototypes, which have nothing to train: what the loss moves is
    features. The weaker modality is pushed, the stronger is not, and in the
    first epochs the entropy `H` keeps the stronger from getting sure too soon.
    No gradient goes through `beta` and `gamma`.

    For two modalities this is the paper's formula; that for more is ours. The
    released code has no entropy, and pushes the weaker modality by all of
    `alpha` however little it is behind.

    It is a loss of all outputs together, one item of a list. Give the model
    `combiner="sum"`: without a combiner the fused loss alone is descended. It
    can't be trained on several replicas that share a batch, since each would
    compare scores of its own.

    Args:
        alpha: Non-negative float. Defaults to `1.0`, as in the released code;
            the paper has 1 to 2.
        mu: Non-negative float. Defaults to `0.01`; the paper has 0.001 to 0.01.
        early: Boolean, whether the entropy has part.
            `keras_mimo.callbacks.UpdatePrototypes` sets it by the epoch.
            Defaults to `True`.
        fused: Name of the output that is no modality's. Defaults to `"fused"`.
        reduction: As for every Keras loss.
            Defaults to `"sum_over_batch_size"`.
        name: Optional name. Defaults to `"prototype_rebalancing"`.
        dtype: As for every Keras loss; computed in `float32` at least.

    Call arguments:
        y_true: Dict from the names of outputs to labels, integers of shape
            `(batch,)` or `(batch, 1)`, or one-hot of shape `(batch, C)`.
        y_pred: Dict from the names of outputs to logits of shape `(batch, C)`.
            Samples that a mask leaves out have no part in that modality.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range, or if there are fewer than
            two modalities.

    Example:

    ```python
    fused = keras_mimo.late_fusion(encoders, num_classes=7)
    model = keras_mimo.add_unimodal_heads(
        keras_mimo.inference_model(fused),
        {"accel": "accel_encoder", "gyro": "gyro_encoder"},
        head=lambda modality: keras_mimo.layers.PrototypeClassifier(7),
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        "adam",
        [{"fused": crossentropy}, keras_mimo.losses.PrototypeRebalancing()],
        metrics=["accuracy"],
        combiner="sum",
    )
    update = keras_mimo.callbacks.UpdatePrototypes((x, y))
    model.fit(x, y, epochs=100, callbacks=[update])
    ```

    Reference:

    - [PMR: Prototypical Modal Rebalance for Multimodal Learning](
        https://arxiv.org/abs/2211.07089)
    """

    def __init__(
        self,
        alpha=1.0,
        mu=0.01,
        early=True,
        fused="fused",
        reduction="sum_over_batch_size",
        name="prototype_rebalancing",
        dtype=None,
    ):
        super().__init__(
            name=name, reduction=reduction, dtype=at_least_float32(dtype)
        )
        self.alpha = check_number("alpha", alpha, positive=False)
        self.mu = check_number("mu", mu, positive=False)
        self.early = early
        self.fused = fused

    def call(self, y_true, y_pred):
        modalities = sorted(name for name in y_pred if name != self.fused)
        if len(modalities) < 2:
            raise ValueError(
                "`y_pred` must have the outputs of at least two modalities. "
                f"Received: outputs {sorted(y_pred)} with fused={self.fused!r}"
            )
        parts = [self._parts(y_true[m], y_pred[m]) for m in modalities]
        log_true, entropy, share = map(ops.stack, zip(*parts, strict=True))
        scores = ops.mean(share * ops.exp(log_true), axis=1)
        # A modality that no sample has is not behind.
        absent = ops.max(share, axis=1) == 0
        scores = ops.where(absent, ops.max(scores), scores)
        beta, gamma = coefficients(ops.stop_gradient(scores))
        losses = -self.alpha * beta[:, None] * log_true
        if self.early:
            losses = losses - self.mu * gamma[:, None] * entropy
        return ops.sum(share * losses, axis=0)

    def _parts(self, labels, logits):
        """Of each sample: log p of its class, H(p), and its part in a mean."""
        mask = get_keras_mask(logits)
        logits = ops.convert_to_tensor(logits, dtype=self.dtype)
        targets = one_hot_targets(
            ops.convert_to_tensor(labels), logits, logits.shape[-1], self.dtype
        )
        log_p = ops.log_softmax(logits, axis=-1)
        log_true = ops.sum(targets * log_p, axis=-1)
        entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
        share = ops.ones_like(log_true)
        if mask is not None:
            share = ops.cast(mask, self.dtype)
            share = share / ops.maximum(ops.mean(share), 1e-9)
        return log_true, entropy, share

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "mu": self.mu,
            "early": self.early,
            "fused": self.fused,
            "dtype": self.dtype,
        }


def coefficients(scores):
    """How much each modality is pushed, and how much held back.

    Args:
        scores: Tensor of shape `(M,)`, none below 0.

    Returns:
        Tuple of two tensors of shape `(M,)`: `beta` and `gamma`.
    """
    best = ops.max(scores)
    # A score of 0 is behind by all: (best - 0) / best = 1.
    base = ops.where(scores > 0, scores, ops.where(best > 0, best, 1.0))
    beta = ops.clip((best - scores) / base, 0.0, 1.0)
    return beta, ops.where(scores == best, ops.max(beta), 0.0)
