import keras
from keras import ops
from keras import tree

from keras_mimo import gradients
from keras_mimo.objectives.class_ids import ClassIdCheck
from keras_mimo.objectives.loss_arguments import check_loss
from keras_mimo.objectives.loss_arguments import check_loss_weights
from keras_mimo.objectives.missing_labels import check_missing_label
from keras_mimo.objectives.missing_labels import mask_missing
from keras_mimo.objectives.objective import Objective
from keras_mimo.objectives.recorder import Recorder
from keras_mimo.objectives.recorder import ignored_classes
from keras_mimo.objectives.recorder import name_of
from keras_mimo.objectives.unknown_labels import UnknownLabels
from keras_mimo.utils._keras import CompileLoss
from keras_mimo.utils._keras import unscale_loss_for_distribution
from keras_mimo.utils.errors import MissingEntryError

# In the error of Keras where labels do not fit the outputs.
STRUCTURES = "y_true and y_pred have different structures"


@keras.saving.register_keras_serializable(package="keras_mimo")
class Outputs(Objective):
    """One objective per compiled loss: the natural choice for multi-task.

    A model with several outputs has one objective per output that has a loss,
    named like the output. Where an output has a list of losses, each of them is
    an objective, named `<output>_<loss>`, or just `<loss>` where the model has
    one output. (Plain Keras uses the first loss of a list on a single output
    and drops the others without a word.)

    `loss_weights`, masks, sample weights and reductions work as in Keras: an
    objective is the weighted loss. One that no sample of a batch has part in,
    because all are masked, missing or of weight 0, is absent from that step.

    Args:
        missing_label: Number, such as `float("nan")` or `-1`, that stands in
            the labels where a sample has none for an output, or a dict of such
            numbers for some of the outputs. A sample is left out of the loss
            and the metrics of an output where an entry of its label is missing.
            Defaults to `None`: every sample has every label.

    Raises:
        TypeError: If `missing_label` is no such number or dict.

    Example:

    ```python
    model = keras_mimo.BalancedModel(inputs, {"depth": depth, "label": label})
    model.compile(
        "adam",
        loss={"depth": "mse", "label": "sparse_categorical_crossentropy"},
        combiner=keras_mimo.MGDACombiner(),
    )
    ```
    """

    def __init__(self, missing_label=None):
        super().__init__()
        check_missing_label(missing_label)
        self.missing_label = missing_label
        # A mean over the samples of a replica that have a label.
        self.across_replicas = missing_label is None

    def compile(self, loss, loss_weights, output_names):
        check_loss(loss)
        check_loss_weights(loss_weights)
        self._loss = loss
        self._loss_weights = loss_weights
        self._output_names = output_names
        self._compile_loss = None
        self._records = []
        self._shared_trackers = []
        self._own_trackers = {}
        self._unknown_labels = None
        self._label_checks = None

    def __call__(self, y, y_pred, sample_weight=None):
        y = self.targets(y, y_pred)
        if self._compile_loss is None:
            self._compile_loss = CompileLoss(
                self._recorded(y_pred), output_names=self._output_names
            )
        self._records.clear()
        _total(self._compile_loss, y, y_pred, sample_weight)
        records = list(self._records)
        # The sink must not keep the tensors of a finished trace alive.
        self._records.clear()
        if self.names is None:
            self._build(records, y_pred)
        else:
            self._track_shared(records)
        self._track(records, y_pred)
        if self._unknown_labels is not None:
            self._unknown_labels.update_state(
                [
                    r.labels.unknown
                    for r in records
                    if r.labels.num_classes is not None
                ]
            )
        return self._losses(records), self._active(records)

    def labels(self, y, y_pred):
        """The labels of each output, with what stands for missing ones."""
        if not isinstance(y, (list, tuple)):
            return y
        # TensorFlow's datasets make tuples of lists, which confuses Keras
        # where they are nested.
        try:
            tree.assert_same_paths(y, y_pred)
        except ValueError:
            return y
        return tree.pack_sequence_as(y_pred, tree.flatten(y))

    def targets(self, y, y_pred):
        labels = self.labels(y, y_pred)
        return mask_missing(labels, y_pred, self.missing_label)

    def check_labels(self, y, model):
        if y is None or self._output_names is None:
            return
        if self._label_checks is None:
            checks = tree.map_structure(
                lambda recorder: recorder and self._check(recorder),
                self._recorded(model.output),
            )
            # Keras finds the labels of each output, as it will in training.
            self._label_checks = CompileLoss(
                checks, output_names=self._output_names
            )
        labels = self.labels(y, model.output)
        _total(self._label_checks, labels, model.output)

    def check_batches(self):
        if self._unknown_labels is not None:
            self._unknown_labels.check()

    def _check(self, recorder):
        allowed = ignored_classes(recorder.losses)
        missing = self.missing_label
        if isinstance(missing, dict):
            missing = missing.get(recorder.output)
        if missing is not None:
            allowed.add(missing)
        return ClassIdCheck(recorder.losses, recorder.output, allowed)

    def get_config(self):
        return {**super().get_config(), "missing_label": self.missing_label}

    def _losses(self, records):
        return [v for r in records for v in r.recorder.weigh(r.values)]

    def _active(self, records):
        """An objective is absent where no sample has part in its loss."""
        if all(r.present is None for r in records):
            return ops.ones((sum(len(r.values) for r in records),), "bool")
        flags = [
            ops.ones((), "bool") if r.present is None else r.present
            for r in records
            for _ in r.values
        ]
        return ops.stack(flags)

    def check_names(self, names):
        """Raises `ValueError` where the objectives are not as they must be."""

    def _recorded(self, y_pred):
        """The user's losses with a `Recorder`, which weighs, at every leaf."""
        loss, weights = self._loss, self._loss_weights
        if isinstance(y_pred, dict) and not tree.is_nested(loss):
            # JAX sorts the outputs of a subclassed model, others do not.
            names = self._output_names or sorted(y_pred)
            loss = {name: loss for name in names}
            if isinstance(weights, (list, tuple)):
                raise ValueError(
                    "`loss_weights` must be a dict where the outputs are a "
                    f"dict. Received: loss_weights={weights} for the outputs "
                    f"{names}"
                )
        if isinstance(weights, (int, float)):
            weights = tree.map_structure(lambda _: weights, loss)
        elif weights is None:
            weights = tree.map_structure(lambda _: None, loss)
        else:
            weights = _match(loss, weights)
        name = None
        if self._output_names and not tree.is_nested(y_pred):
            (name,) = self._output_names
        return self._record(loss, weights, y_pred, name)

    def _record(self, loss, weights, y_pred, output):
        if loss is None:
            return None
        if not tree.is_nested(loss):
            weight = 1.0 if weights is None else weights
            return self._recorder([loss], [weight], output, weigh_sum=False)
        if isinstance(loss, dict):
            return {
                key: self._record(
                    loss[key], weights[key], self._output(y_pred, key), key
                )
                for key in loss
            }
        leaves = not any(tree.is_nested(item) for item in loss)
        outputs = tree.flatten(y_pred)
        if leaves and not tree.is_nested(y_pred):
            pairs = [
                (item, 1.0 if weight is None else weight)
                for item, weight in zip(loss, weights, strict=True)
                if item is not None
            ]
            losses, weights = zip(*pairs, strict=True)
            return self._recorder(losses, weights, output, weigh_sum=True)
        each = leaves and len(loss) == len(outputs)
        if isinstance(y_pred, dict) and not each:
            # As in Keras, every item is a loss of all outputs together, or
            # the losses of each.
            for item in loss:
                if item is not None and not tree.is_nested(item):
                    self._check_joint(item)
            return [
                self._record(item, weight, y_pred, None)
                for item, weight in zip(loss, weights, strict=True)
                if item is not None
            ]
        predictions = outputs if leaves else y_pred
        if not tree.is_nested(y_pred) or len(predictions) != len(loss):
            raise MissingEntryError(
                "`loss` must have one entry for each output of the model. "
                f"Received: loss={loss} for {len(outputs)} outputs"
            )
        names = self._output_names
        if names is None or len(names) != len(loss):
            # In a list of lists Keras names what is inside, and later.
            names = [None] * len(loss)
        return [
            self._record(*item)
            for item in zip(loss, weights, predictions, names, strict=True)
        ]

    def _check_joint(self, loss):
        """Raises `ValueError` where no loss can be one of several outputs."""
        if self.missing_label is not None:
            raise ValueError(
                "`loss` must have an entry for each output where objectives "
                "have a `missing_label`: a loss of several outputs would not "
                f"know of it. Received: {name_of(loss)!r} for several outputs"
            )

    def _recorder(self, losses, weights, output, weigh_sum):
        return Recorder(losses, weights, self._records, output, weigh_sum)

    def _output(self, y_pred, key):
        if isinstance(y_pred, dict):
            if key in y_pred:
                return y_pred[key]
        elif self._output_names and key in self._output_names:
            outputs = tree.flatten(y_pred)
            if len(outputs) == len(self._output_names):
                return outputs[self._output_names.index(key)]
        known = list(y_pred) if isinstance(y_pred, dict) else self._output_names
        raise MissingEntryError(
            "`loss` names an output that the model does not have: "
            f"{key!r}. Its outputs are {known}."
        )

    def _build(self, records, y_pred):
        trackers = self._compile_loss.metrics
        if len(records) > 1:
            outputs = [m.name.removesuffix("_loss") for m in trackers]
        else:
            outputs = [r.recorder.output for r in records]
        lone = len(tree.flatten(y_pred)) == 1
        names = []
        for output, record in zip(outputs, records, strict=True):
            losses = record.recorder.loss_names
            if len(losses) == 1:
                names.append(output or losses[0])
            elif lone or output is None:
                names.extend(losses)
            else:
                names.extend(f"{output}_{loss}" for loss in losses)
        names = _unique(names)
        self.check_names(names)
        self.names = names
        # The metrics of Keras are right only where it sums several outputs.
        shared = list(trackers) if len(records) > 1 else []
        self._shared_trackers = shared
        # Its own updates cost more than a combiner: it goes on without them.
        trackers[:] = [None] * len(trackers)
        known = {metric.name for metric in shared}
        if len(self.names) > 1:
            self._own_trackers = {
                index: keras.metrics.Mean(name=f"{name}_loss")
                for index, name in enumerate(self.names)
                if f"{name}_loss" not in known
            }
        self.metrics = [*shared, *self._own_trackers.values()]
        self._count_unknown_labels(outputs, records)

    def _count_unknown_labels(self, outputs, records):
        found = [
            (output, record.labels.num_classes)
            for output, record in zip(outputs, records, strict=True)
            if record.labels.num_classes is not None
        ]
        if found:
            self._unknown_labels = UnknownLabels(*zip(*found, strict=True))
            self.metrics.append(self._unknown_labels)

    def _track_shared(self, records):
        """As Keras, which has done it in the call that built the objective."""
        if self._shared_trackers:
            gradients.engine().update_means(
                self._shared_trackers,
                [unscale_loss_for_distribution(r.total) for r in records],
                [r.size for r in records],
            )

    def _track(self, records, y_pred):
        values = [v for r in records for v in r.values]
        for index, tracker in self._own_trackers.items():
            tracker.update_state(
                unscale_loss_for_distribution(values[index]),
                sample_weight=tree.flatten(y_pred)[0].shape[0],
            )


def _total(compile_loss, y, y_pred, sample_weight=None):
    """The sum of losses; the errors of Keras itself name no argument."""
    try:
        return compile_loss(y, y_pred, sample_weight)
    except (KeyError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, ValueError) and STRUCTURES not in str(error):
            raise
        given = tree.map_structure(
            lambda leaf: None if leaf is None else "*", (y, sample_weight)
        )
        raise MissingEntryError(
            "`y`, and `sample_weight` if it is nested, must have an entry for "
            "each output that has a loss. "
            f"Received: y={given[0]}, sample_weight={given[1]}: {error}"
        ) from error


def _match(loss, weights):
    """`loss_weights` in the structure of `loss`, by Keras' rules."""
    try:
        tree.assert_same_structure(loss, weights)
        return weights
    except ValueError:
        flat = tree.flatten(weights)
        named = isinstance(loss, dict) and isinstance(weights, dict)
        if named or len(flat) != len(tree.flatten(loss)):
            raise MissingEntryError(
                "`loss_weights` must have one entry for each loss. "
                f"Received: loss={loss}, loss_weights={weights}"
            ) from None
        return tree.pack_sequence_as(loss, flat)


def _unique(names):
    counts = {}
    unique = []
    for name in names:
        seen = counts.get(name, 0)
        counts[name] = seen + 1
        unique.append(f"{name}_{seen}" if seen else name)
    return unique
