import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner


class CombinerWrapper(BalancedGradientCombiner):
    """Base class of combiners that change what another combiner does.

    Args:
        combiner: The `BalancedGradientCombiner` to wrap. Its state is part of
            the wrapper's.

    Raises:
        TypeError: If `combiner` is of another type.
        ValueError: If `combiner` gives no weights, or keeps gradients, or, at
            build time, if it has trainable weights, or looks again at the
            losses and the wrapper needs the Gramian.
    """

    def __init__(self, combiner, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(combiner, BalancedGradientCombiner):
            raise TypeError(
                "`combiner` must be a `BalancedGradientCombiner`. "
                f"Received: combiner={combiner} of type {type(combiner)}"
            )
        if combiner.needs == "gradients":
            raise ValueError(
                f"{type(self).__name__} changes the weights of a combiner, and "
                f"{type(combiner).__name__} has none: it treats every "
                f"coordinate on its own. Received: combiner={combiner}"
            )
        if combiner.keeps_rows:
            raise ValueError(
                f"{type(self).__name__} changes the weights of a combiner, and "
                f"does not show it the gradients that {type(combiner).__name__}"
                f" keeps. Received: combiner={combiner}"
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
        if self.looks_again and self.needs != "losses":
            raise ValueError(
                f"{type(self.combiner).__name__} learns from the losses after "
                "the step, which are not computed where a Gramian is. "
                f"Received: combiner={self.combiner} in a "
                f"{type(self).__name__} that needs the Gramian"
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
