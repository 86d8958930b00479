import operator

import keras
from keras import ops

from keras_mimo.utils.kept_state import KeptState


@keras.saving.register_keras_serializable(package="keras_mimo")
class Modulation(KeptState):
    """Base class: one factor for the encoder of each modality.

    What a combiner is to objectives a modulation is to encoders: in a step of a
    `MultimodalModel` that is compiled with `modulation=`, the update of the
    variables of encoder `m` is multiplied by `factors[m]`. Heads and fusion are
    left alone, unless `on_heads` is true. The two go together: first the
    combiner gives the gradient, then the modulation scales it.

    To write one, implement `call()` and register the class with
    `keras.saving.register_keras_serializable`. `__call__()` takes care of what
    all share:

    - Where a score or a loss is not finite (a modality that no sample of the
      batch has, an overflow), the factors are 1 and the state stays.
    - Before epoch `start` and from epoch `stop` on, the factors are 1.

    A modulation by the epoch sets `by_batch = False` and implements
    `on_epoch_end()` instead, which assigns `factors`.

    Args:
        start: Non-negative integer, the first epoch with factors, counted from
            0 as in `fit()`. Defaults to `0`.
        stop: Integer above `start`, the first epoch without them again, or
            `None`: never. Defaults to `None`.
        scale: `"gradient"`: a factor multiplies the gradient that the optimizer
            gets, as in the papers, which train by SGD. `"update"`: it
            multiplies what the optimizer makes of it. Adam divides a gradient
            by its own running length, so that a constant factor on gradients
            cancels; on updates it acts. Defaults to `"gradient"`.

    Raises:
        TypeError: If `start` or `stop` is no integer.
        ValueError: If one is out of range, or `scale` is unknown.

    Attributes:
        by_batch: Whether factors come from the scores of every batch.
        on_encoders: Whether factors act on encoders, which each modality must
            then have. If not, `modulate_outputs()` applies them.
        on_heads: Whether factors also act on the layers between the features of
            a modality and where modalities meet, such as the heads of
            `late_fusion(fusion="sum")`.
        modalities: List of M strings, set by `build()`.
        factors: Variable of shape `(M,)`, those in use.

    Example:

    ```python
    @keras.saving.register_keras_serializable(package="my_package")
    class WeakestOnly(keras_mimo.modulations.Modulation):
        def call(self, scores, losses, training=True):
            return keras.ops.cast(scores == keras.ops.min(scores), "float32")

    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile("sgd", loss, modulation=WeakestOnly(stop=50))
    ```
    """

    by_batch = True
    on_encoders = True
    on_heads = False

    def __init__(self, start=0, stop=None, scale="gradient", **kwargs):
        super().__init__(**kwargs)
        self.start = _epoch("start", start, 0)
        self.stop = None if stop is None else _epoch("stop", stop, start + 1)
        if scale not in ("gradient", "update"):
            raise ValueError(
                '`scale` must be "gradient" or "update". '
                f"Received: scale={scale!r}"
            )
        self.scale = scale
        self.modalities = None

    def build(self, modalities, encoders=None):
        """Creates the state for the named modalities.

        Args:
            modalities: List of M distinct strings.
            encoders: Dict from modalities to lists of the variables that the
                factors act on, or `None` outside of a model.

        Raises:
            ValueError: If there are fewer than two.
        """
        modalities = list(modalities)
        if len(modalities) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two modalities. "
                f"Received: modalities={modalities}"
            )
        self.modalities = modalities
        self.factors = self.add_weight(
            shape=(len(modalities),),
            initializer="ones",
            trainable=False,
            name="factors",
        )
        self.epoch = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="epoch",
        )

    def __call__(self, scores, losses=None, training=True):
        """Computes the factors, and keeps them.

        Args:
            scores: Tensor of shape `(M,)`: for each modality, the mean over the
                batch of the probability that its own output gives to the true
                class.
            losses: Tensor of shape `(M,)`, the mean cross-entropies of the
                modalities' outputs. Defaults to `None`: those of outputs that
                are as sure of every sample, `-log(scores)`.
            training: Boolean. State is updated only if `True`.

        Returns:
            Tensor of shape `(M,)`, `float32`.

        Raises:
            ValueError: If a shape does not fit the number of modalities.
        """
        scores = ops.cast(scores, "float32")
        if losses is None:
            losses = -ops.log(scores)
        losses = ops.cast(losses, "float32")
        if not self.built:
            count = scores.shape[0] if len(scores.shape) else 0
            self.build([f"modality_{m}" for m in range(count)])
        for argument, value in (("scores", scores), ("losses", losses)):
            if tuple(value.shape) != (len(self.modalities),):
                raise ValueError(
                    f"`{argument}` must have one entry for each of the "
                    f"modalities {self.modalities}. "
                    f"Received: {argument}.shape={tuple(value.shape)}"
                )
        finite = ops.all(ops.isfinite(scores)) & ops.all(ops.isfinite(losses))
        with self._state_changes_if(finite & bool(training)):
            factors = self.call(
                ops.where(finite, scores, 1.0),
                ops.where(finite, losses, 0.0),
                training,
            )
        factors = ops.where(finite & self.acts(), factors, 1.0)
        self.factors.assign(factors)
        return factors

    def call(self, scores, losses, training=True):
        """Computes the factors; implemented by subclasses.

        Args:
            scores: Tensor of shape `(M,)`, from 0 to 1.
            losses: Tensor of shape `(M,)`.
            training: Boolean.

        Returns:
            Tensor of shape `(M,)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `call()`."
        )

    def acts(self):
        """Boolean scalar tensor: whether the epoch is one with factors."""
        epoch = ops.convert_to_tensor(self.epoch)
        acts = epoch >= self.start
        return acts if self.stop is None else acts & (epoch < self.stop)

    def acting_factors(self):
        """Tensor of shape `(M,)`: the factors, 1 in epochs without."""
        return ops.where(self.acts(), ops.convert_to_tensor(self.factors), 1.0)

    def outputs(self, model, x, y_pred):
        """The logits by which modalities are scored: their own outputs.

        Args:
            model: The model, in a training step.
            x: Inputs.
            y_pred: Dict, what the model returned for them.

        Returns:
            Dict from modalities to tensors.
        """
        return {modality: y_pred[modality] for modality in self.modalities}

    def modulate_outputs(self, outputs, factors, y_pred):
        """What the loss is computed of: `y_pred`.

        Args:
            outputs: What `outputs()` returned.
            factors: Tensor of shape `(M,)`.
            y_pred: Dict, what the model returned.

        Returns:
            Dict like `y_pred`.
        """
        return y_pred

    def modulate_gradient(self, gradient, factor):
        """The gradient of a variable of an encoder, as the optimizer gets it.

        Args:
            gradient: Tensor.
            factor: Scalar tensor, 1 where `scale` is `"update"`.

        Returns:
            Tensor of the same shape.
        """
        return gradient * ops.cast(factor, gradient.dtype)

    def on_epoch_begin(self, epoch):
        """Called by `fit()` before the batches of an epoch."""
        self.epoch.assign(epoch)

    def on_epoch_end(self, epoch, logs, encoders):
        """Called by `fit()` after the batches and the validation of an epoch.

        Args:
            epoch: Integer, counted from 0.
            logs: Dict, what callbacks get.
            encoders: Dict from modalities to lists of variables.
        """

    def get_build_config(self):
        # The model that is compiled with it builds it, with its encoders.
        return None

    def get_config(self):
        return {
            **super().get_config(),
            "start": self.start,
            "stop": self.stop,
            "scale": self.scale,
        }


def _epoch(argument, given, smallest):
    try:
        epoch = operator.index(given)
    except TypeError:
        raise TypeError(
            f"`{argument}` must be an integer, the number of an epoch. "
            f"Received: {argument}={given!r}"
        ) from None
    if epoch < smallest:
        raise ValueError(
            f"`{argument}` must be at least {smallest}. "
            f"Received: {argument}={given!r}"
        )
    return epoch
