import keras

from keras_mimo.objectives.outputs import Outputs
from keras_mimo.objectives.recorder import name_of


class Split(Outputs):
    """The base of objectives that split each objective of others into several.

    What an output is, which label it has and what its metrics are say the
    objectives that are split. They are nothing without a combiner.

    Args:
        within: An `Outputs` objective, or `None` for `keras_mimo.Outputs()`.

    Raises:
        TypeError: If `within` is anything else.
    """

    def __init__(self, within=None):
        super().__init__()
        if within is not None and not isinstance(within, Outputs):
            raise TypeError(
                "`within` must be an `Outputs` or `Modalities` objective. "
                f"Received: within={within} of type {type(within)}"
            )
        self.within = within or Outputs()

    def compile(self, loss, loss_weights, output_names):
        super().compile(loss, loss_weights, output_names)
        self.within.compile(loss, loss_weights, output_names)

    def targets(self, y, y_pred):
        return self.within.targets(y, y_pred)

    def expand_metrics(self, metrics, output_names):
        return self.within.expand_metrics(metrics, output_names)

    def check_names(self, names):
        self.within.check_names(names)

    def default_weights(self):
        name = type(self).__name__
        raise ValueError(
            f"`{name}` needs a combiner: without one there is nothing that "
            "balances its objectives. Received: combiner=None"
        )

    def _check_joint(self, loss):
        raise ValueError(
            "`loss` must have an entry for each output with "
            f"`{type(self).__name__}`, which splits it. "
            f"Received: loss={name_of(loss)!r} for several outputs"
        )

    def get_config(self):
        return {"within": keras.saving.serialize_keras_object(self.within)}

    @classmethod
    def from_config(cls, config):
        within = keras.saving.deserialize_keras_object(config["within"])
        return cls(**{**config, "within": within})
