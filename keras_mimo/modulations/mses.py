import keras
import numpy as np
from keras import ops

from keras_mimo.modulations.epoch_logs import of_modalities
from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class MSES(Modulation):
    """Modality-specific early stopping: each encoder stops at its best.

    After every epoch the validation loss of modality `m` is smoothed,
    `S_m <- (1 - smoothing) * S_m + smoothing * L_m`. Where it has had no new
    minimum for `patience` epochs, the encoder gets the variables back that it
    had at the minimum, and the factor 0 for good. The others train on.

    (Statistics of batch normalization, which are no trainable variables, go on
    moving.)

    Args:
        patience: Positive integer. Defaults to `5` (our choice).
        smoothing: Float above 0, at most 1. Defaults to `0.4`, as in the paper.
        metric: String, what is smaller where a modality does better. Its names
            in the logs are `val_<modality>_<metric>`. Defaults to `"loss"`.
        start: As in `Modulation`.
        stop: As in `Modulation`.
        scale: As in `Modulation`. Defaults to `"update"`: with a gradient of 0
            the momentum of an optimizer would carry an encoder on.

    Raises:
        ValueError: If an argument is out of range; in `fit()`, if the logs lack
            the loss of a modality.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="sum",
        modulation=keras_mimo.modulations.MSES(patience=5),
    )
    model.fit(x, y, validation_data=(x_val, y_val), epochs=50)
    ```

    Reference:

    - [Fujimori et al., 2020, Modality-Specific Learning Rate Control for
      Multimodal Classification](
      https://doi.org/10.1007/978-3-030-41299-9_32)
    """

    by_batch = False

    def __init__(
        self,
        patience=5,
        smoothing=0.4,
        metric="loss",
        start=0,
        stop=None,
        scale="update",
        **kwargs,
    ):
        super().__init__(start, stop, scale, **kwargs)
        self.patience = check_units("patience", patience)
        self.smoothing = check_number("smoothing", smoothing)
        if self.smoothing > 1:
            raise ValueError(
                "`smoothing` must be above 0 and at most 1. "
                f"Received: smoothing={smoothing}"
            )
        self.metric = metric

    def build(self, modalities, encoders=None):
        super().build(modalities, encoders)

        def each(name, initializer):
            return self.add_weight(
                shape=(len(self.modalities),),
                initializer=initializer,
                trainable=False,
                name=name,
            )

        infinity = keras.initializers.Constant(float("inf"))
        self.smoothed = each("smoothed", infinity)
        self.best = each("best", infinity)
        self.waited = each("waited", "zeros")
        self.best_variables = {
            modality: [
                self.add_weight(
                    shape=variable.shape,
                    initializer="zeros",
                    dtype=variable.dtype,
                    trainable=False,
                    name=f"{modality}_{index}",
                )
                for index, variable in enumerate(variables)
            ]
            for modality, variables in (encoders or {}).items()
        }

    def on_epoch_end(self, epoch, logs, encoders):
        if not ops.convert_to_numpy(self.acts()):
            return
        now = np.array(of_modalities(self, logs, self.metric))
        before, best, waited, factors = (
            ops.convert_to_numpy(v)
            for v in (self.smoothed, self.best, self.waited, self.factors)
        )
        first = np.isinf(before)
        kept = np.where(first, 0.0, before)
        mixed = (1 - self.smoothing) * kept + self.smoothing * now
        smoothed = np.where(first, now, mixed)
        runs = factors > 0
        better = runs & (smoothed < best)
        waited = np.where(better, 0, waited + runs)
        ended = runs & (waited >= self.patience)
        for m, modality in enumerate(self.modalities):
            pairs = zip(
                encoders[modality], self.best_variables[modality], strict=True
            )
            for variable, kept_variable in pairs:
                # Copies: what JAX donates to a step must be there once.
                if better[m]:
                    kept_variable.assign(ops.copy(variable))
                elif ended[m]:
                    variable.assign(ops.copy(kept_variable))
        self.smoothed.assign(smoothed)
        self.best.assign(np.where(better, smoothed, best))
        self.waited.assign(waited)
        self.factors.assign(np.where(ended, 0.0, factors))

    def get_config(self):
        return {
            **super().get_config(),
            "patience": self.patience,
            "smoothing": self.smoothing,
            "metric": self.metric,
        }
