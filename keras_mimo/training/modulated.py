from keras import ops

from keras_mimo.objectives import Modalities
from keras_mimo.training.compiled import MeanTracker
from keras_mimo.training.true_class import TrueClass
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import set_keras_mask


class ModulatedStep:
    """What a modulation does in a training step of a multi-modal model.

    Args:
        model: The model that is being compiled.
        modulation: A `keras_mimo.modulations.Modulation`, or `None` where there
            are only layers that ask for the modalities' scores.
        objectives: The objective that it is compiled with.
        loss: The `loss` argument of `compile()`.

    Raises:
        ValueError: If the model, its objective or its losses do not fit.
    """

    def __init__(self, model, modulation, objectives, loss):
        if not hasattr(model, "encoder_variables"):
            raise ValueError(
                "`modulation` is for a `MultimodalModel`, such as "
                "`late_fusion()` makes. "
                f"Received: a model of type {type(model).__name__}"
            )
        if not isinstance(objectives, Modalities):
            raise ValueError(
                "`modulation` needs the objectives `Modalities`. "
                f"Received: objectives={objectives}"
            )
        self.modulation = modulation
        self.modalities = [name for name in model.output if name != "fused"]
        self._model = model
        self._layers = score_keepers(model)
        for layer in self._layers:
            if not set(layer.modalities) <= set(self.modalities):
                raise ValueError(
                    f"The layer {layer.name!r} must be given features of the "
                    f"modalities {self.modalities}. "
                    f"Received: {layer.modalities}"
                )
        self.metrics = []
        if modulation is not None:
            self._build(modulation)
        self._true_class = None
        if self._layers or (modulation and modulation.by_batch):
            if not isinstance(loss, dict):
                loss = dict.fromkeys(model.output, loss)
            self._true_class = TrueClass(
                {modality: loss.get(modality) for modality in self.modalities}
            )

    def _build(self, modulation):
        encoders = self.encoders()
        missing = [m for m in self.modalities if not encoders.get(m)]
        if missing and modulation.on_encoders:
            raise ValueError(
                "`modulation` needs an encoder of its own, with trainable "
                "variables, for each modality. Received: a model in which "
                f"{missing} have none"
            )
        if not modulation.built:
            modulation.build(self.modalities, encoders)
        elif modulation.modalities != self.modalities:
            raise ValueError(
                "`modulation` was built for the modalities "
                f"{modulation.modalities} and can't be used for "
                f"{self.modalities}. Pass a new instance to `compile()`."
            )
        self._tracker = MeanTracker(
            [f"{name}_factor" for name in self.modalities], "factor"
        )
        self.metrics = [self._tracker]

    def encoders(self):
        """Dict from modalities to the variables that factors act on."""
        if self.modulation.on_heads:
            return self._model.branch_variables
        return self._model.encoder_variables

    def on_epoch_begin(self, epoch):
        if self.modulation is not None:
            self.modulation.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch, logs):
        for layer in self._layers:
            layer.on_epoch_end()
        if self.modulation is not None:
            self.modulation.on_epoch_end(epoch, logs, self.encoders())

    def watch(self, x, y, y_pred):
        """Scores the modalities of a batch in training.

        Returns:
            The outputs that losses are computed of.
        """
        modulation = self.modulation
        by_batch = modulation is not None and modulation.by_batch
        if modulation is not None and not by_batch:
            self._tracker.update_state(modulation.acting_factors(), 1)
        if self._true_class is None:
            return y_pred
        y = self._model.objectives.targets(y, y_pred)
        own = {modality: y_pred[modality] for modality in self.modalities}
        if self._layers:
            scores, _ = self._true_class(y, own)
            for layer in self._layers:
                places = [self.modalities.index(m) for m in layer.modalities]
                layer.update_scores(ops.take(scores, ops.array(places)))
        if not by_batch:
            return y_pred
        outputs = modulation.outputs(self._model, x, y_pred)
        factors = modulation(*self._true_class(y, outputs), training=True)
        self._tracker.update_state(factors, 1)
        modulated = modulation.modulate_outputs(outputs, factors, y_pred)
        for name, output in modulated.items():
            set_keras_mask(output, get_keras_mask(y_pred[name]))
        return modulated

    def gradients(self, gradients, variables):
        """The gradients as the optimizer gets them.

        Args:
            gradients: List of gradients, `None` where there is none.
            variables: List of variables.

        Returns:
            List like `gradients`.
        """
        if self.modulation is None or not self.modulation.on_encoders:
            return gradients
        on_gradient = self.modulation.scale == "gradient"
        return [
            gradient
            if factor is None or gradient is None
            else self.modulation.modulate_gradient(
                gradient, factor if on_gradient else 1.0
            )
            for gradient, factor in zip(
                gradients, self._factors(variables), strict=True
            )
        ]

    def updates(self, variables, before, after):
        """The values of variables after an update.

        Args:
            variables: List of variables.
            before: List of their values before the update.
            after: List of their values after it.

        Returns:
            List like `after`.
        """
        if not self.scales_updates:
            return after
        return [
            new if factor is None else old + factor * (new - old)
            for old, new, factor in zip(
                before, after, self._factors(variables), strict=True
            )
        ]

    @property
    def scales_updates(self):
        return self.modulation is not None and self.modulation.scale == "update"

    def acts_on(self, variables):
        """For each variable, whether a factor acts on it."""
        return [factor is not None for factor in self._factors(variables)]

    def _factors(self, variables):
        """For each variable a scalar, or `None` where none acts on it."""
        encoders = self.encoders()
        factors = self.modulation.acting_factors()
        places = {
            id(variable): m
            for m, modality in enumerate(self.modalities)
            for variable in encoders[modality]
            if not getattr(variable, "overwrite_with_gradient", False)
        }
        return [
            factors[places[id(variable)]] if id(variable) in places else None
            for variable in variables
        ]


def score_keepers(model):
    """The layers that ask for the scores of the modalities of every batch."""
    layers = model._flatten_layers(include_self=False)
    return [layer for layer in layers if hasattr(layer, "update_scores")]
