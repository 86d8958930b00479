import keras
from keras import tree

from keras_mimo.losses.prototype_rebalancing import PrototypeRebalancing
from keras_mimo.objectives.outputs import Outputs
from keras_mimo.objectives.recorder import name_of


@keras.saving.register_keras_serializable(package="keras_mimo")
class Modalities(Outputs):
    """One label, scored against the fused output and each modality's own.

    `y` stays the single array that the user has: every output is scored against
    it, with the same loss (or with a loss of its own, in a dict), the same
    sample weights and the same metrics: `metrics=["accuracy"]` is reported for
    every output.

    Of losses of several outputs together it takes one,
    `keras_mimo.losses.PrototypeRebalancing`, as an objective of its own.

    Without a combiner the model is trained jointly: the fused loss alone is
    descended, and every output is still reported.

    Args:
        fused: Name of the fused output; all others are uni-modal.
            Defaults to `"fused"`, the name that `keras_mimo.late_fusion` gives.
        missing_label: As in `keras_mimo.Outputs`. Defaults to `None`.

    Raises:
        ValueError: At compile or build time, if no output is called `fused` or
            if there is no other output.
    """

    def __init__(self, fused="fused", missing_label=None):
        super().__init__(missing_label)
        self.fused = fused

    def compile(self, loss, loss_weights, output_names):
        super().compile(loss, loss_weights, output_names)
        # It compares the scores of a whole batch, and a replica sees a part.
        self.across_replicas = self.missing_label is None and not any(
            isinstance(leaf, PrototypeRebalancing)
            for leaf in tree.flatten(loss)
        )
        if output_names is not None:
            self.check_names(output_names)

    def labels(self, y, y_pred):
        if tree.is_nested(y_pred) and not tree.is_nested(y):
            return tree.map_structure(lambda _: y, y_pred)
        return super().labels(y, y_pred)

    def expand_metrics(self, metrics, output_names):
        if not isinstance(metrics, (list, tuple)):
            return metrics
        if any(tree.is_nested(metric) for metric in metrics):
            return metrics
        first, *others = output_names
        expanded = {name: [_copy(m) for m in metrics] for name in others}
        return {first: list(metrics), **expanded}

    def default_weights(self):
        return {self.fused: 1.0}

    def _build(self, records, y_pred):
        # Keras calls it after all outputs, in an order of the backend's.
        pairs = zip(self._compile_loss.metrics, records, strict=False)
        for metric, record in pairs:
            for loss in record.recorder.losses:
                if isinstance(loss, PrototypeRebalancing):
                    metric.name = f"{loss.name}_loss"
        super()._build(records, y_pred)

    def _check_joint(self, loss):
        super()._check_joint(loss)
        if isinstance(loss, PrototypeRebalancing):
            return
        raise ValueError(
            "`loss` must have an entry for each output with `Modalities`, "
            f"which are outputs. Received: loss={name_of(loss)!r} for several "
            "outputs"
        )

    def get_config(self):
        return {**super().get_config(), "fused": self.fused}

    def check_names(self, names):
        if self.fused not in names:
            raise ValueError(
                f"`fused` must name one of the outputs {list(names)}. "
                f"Received: fused={self.fused!r}"
            )
        if len(names) < 2:
            raise ValueError(
                "`Modalities` needs the fused output and at least one output "
                f"of a modality. Received: outputs {list(names)}"
            )


def _copy(metric):
    """A metric instance holds state, so every output needs its own."""
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric
