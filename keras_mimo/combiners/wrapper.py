import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner


class CombinerWrapper(BalancedGradientCombiner):
    """Base class of combiners that change what another combiner does.

    Args:
        combiner: The `BalancedGradientCombiner` to wrap. Its state is part of
            the wrapper's.

    Raises:
        TypeError: If `combiner` is of another type.
        ValueError: At build time, if `combiner` has trainable weights.
    """

    def __init__(self, combiner, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(combiner, BalancedGradientCombiner):
            raise TypeError(
                "`combiner` must be a `BalancedGradientCombiner`. "
                f"Received: combiner={combiner} of type {type(combiner)}"
            )
        self.combiner = combiner
        self.min_objectives = combiner.min_objectives

    def build(self, objective_names):
        super().build(objective_names)
        # A combiner from a file comes built.
        if not self.combiner.built:
            self.combiner.build(objective_names)

        if self.combiner.trainable_weights:
            raise ValueError(
                f"{type(self).__name__} changes the weights of a combiner, and "
                f"{type(self.combiner).__name__} learns its own by descending "
                "a loss that depends on them. "
                f"Received: combiner={self.combiner}"
            )

    @property
    def looks_again(self):
        return self.combiner.looks_again

    def compare(self, losses, active):
        self.combiner.compare(losses, active)

    def on_epoch_end(self):
        self.combiner.on_epoch_end()

    def get_config(self):
        return {
            **super().get_config(),
            "combiner": keras.saving.serialize_keras_object(self.combiner),
        }

    @classmethod
    def from_config(cls, config):
        combiner = keras.saving.deserialize_keras_object(config["combiner"])
        return cls(**{**config, "combiner": combiner})
