import keras
from keras import ops

from keras_mimo.modulations.epoch_logs import of_modalities
from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class MSLR(Modulation):
    """Modality-specific learning rates, by how each modality is doing.

    After every epoch the factor of the learning rate of encoder `m` is

        k_m = a_m / mean(a_m of the last epochs, this one among them),

    `a_m` being the modality's accuracy on validation data: who improves is sped
    up, who gets worse is slowed. (The released code takes test data.)

    Args:
        metric: String, the metric that is larger where a modality does better.
            Its names in the logs are `val_<modality>_<metric>`. Defaults to
            `"accuracy"`.
        window: Positive integer, the number of epochs. Defaults to `5`, as in
            the paper.
        start: As in `Modulation`.
        stop: As in `Modulation`.
        scale: As in `Modulation`. Defaults to `"update"`, which is what a
            learning rate scales.

    Raises:
        ValueError: In `fit()`, if the logs lack the metric of a modality.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner="sum",
        modulation=keras_mimo.modulations.MSLR(),
    )
    model.fit(x, y, validation_data=(x_val, y_val), epochs=50)
    ```

    Reference:

    - [Yao and Mihalcea, 2022, Modality-specific Learning Rates for Effective
      Multimodal Additive Late-fusion](
      https://aclanthology.org/2022.findings-acl.143)
    """

    by_batch = False

    def __init__(
        self,
        metric="accuracy",
        window=5,
        start=0,
        stop=None,
        scale="update",
        **kwargs,
    ):
        super().__init__(start, stop, scale, **kwargs)
        self.metric = metric
        self.window = check_units("window", window)

    def build(self, modalities, encoders=None):
        super().build(modalities, encoders)
        self.history = self.add_weight(
            shape=(self.window, len(self.modalities)),
            initializer="zeros",
            trainable=False,
            name="history",
        )
        self.seen = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="seen",
        )

    def on_epoch_end(self, epoch, logs, encoders):
        now = ops.convert_to_tensor(
            of_modalities(self, logs, self.metric), dtype="float32"
        )
        self.history.assign(ops.concatenate([self.history[1:], now[None]]))
        self.seen.assign(ops.minimum(self.seen + 1, self.window))
        mean = ops.sum(self.history, axis=0) / ops.cast(self.seen, "float32")
        self.factors.assign(
            ops.where(mean > 0, now / ops.where(mean > 0, mean, 1.0), 1.0)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "metric": self.metric,
            "window": self.window,
        }
