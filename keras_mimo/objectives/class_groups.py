import numbers
from typing import Any
from typing import NamedTuple

import keras
from keras import ops
from keras import tree

from keras_mimo.objectives.class_assignment import ClassAssignment
from keras_mimo.objectives.class_ids import check_class_ids
from keras_mimo.objectives.class_ids import replace_unknown
from keras_mimo.objectives.missing_labels import missing_values
from keras_mimo.objectives.recorder import Labels
from keras_mimo.objectives.recorder import Recorder
from keras_mimo.objectives.recorder import ignored_classes
from keras_mimo.objectives.split import Split
from keras_mimo.training.replicas import whole_counts
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import get_loss
from keras_mimo.utils._keras import without_reduction


@keras.saving.register_keras_serializable(package="keras_mimo")
class ClassGroups(Split):
    """One objective per group of classes: long-tailed classification.

    The loss of a group is the mean over the samples in the batch that are of
    one of its classes, whatever reduction the compiled loss has. A group
    without a sample is absent: it is not balanced in that step. So is a group
    whose samples all have weight 0.

    Labels are class ids, one-hot, or multi-label targets with an entry for each
    class; in the last case a sample belongs to every group that it has a
    positive label of.

    Groups are given, or found from gradients by `adapt()` (see also
    `keras_mimo.callbacks.RegroupClasses`). Until they are found all classes are
    in one group, and the model is trained as without a combiner. The groups
    are saved with the model.

    Args:
        groups: List of lists of class ids, each class once, or dict that maps
            the names of groups to lists of class ids. Defaults to `None`: they
            are found by `adapt()`.
        num_groups: Positive integer, how many groups are to be found. Defaults
            to `None`, the number of `groups` or, without, 4 as in GBG.
        num_classes: Positive integer. Defaults to `None`: the last axis of the
            predictions.
        within: The `Outputs` whose objectives are split into groups:
            `keras_mimo.Modalities()` for long-tailed multi-modal data, with an
            objective `<output>_<group>` for each pair. Defaults to `None`:
            `keras_mimo.Outputs()`, with an objective `<group>` for each group
            where the model has one output.
        method: How `adapt()` finds groups, as in
            `keras_mimo.grouping.find_groups()`. Defaults to `"ward"`.

    Raises:
        TypeError: If `groups` or `within` is of the wrong type.
        ValueError: If `groups` does not hold each class once, or `method` is
            unknown.

    Example:

    ```python
    model = keras_mimo.BalancedModel(inputs, logits)
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        objectives=keras_mimo.objectives.ClassGroups(
            groups={"head": [0, 1, 2], "tail": [3, 4, 5, 6]}
        ),
        combiner=keras_mimo.MGDACombiner(normalization="loss+"),
    )
    ```

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """

    def __init__(
        self,
        groups=None,
        num_groups=None,
        num_classes=None,
        within=None,
        method="ward",
    ):
        # Not at the top: `grouping` imports `training`, and that this module.
        from keras_mimo.grouping.clusters import check_method

        super().__init__(within)
        check_method(method)
        if groups is not None and not isinstance(groups, (list, tuple, dict)):
            raise TypeError(
                "`groups` must be a list of lists of class ids, or a dict of "
                f"them. Received: groups={groups} of type {type(groups)}"
            )
        _check_positive("num_groups", num_groups)
        _check_positive("num_classes", num_classes)
        if groups is not None and num_groups not in (None, len(groups)):
            raise ValueError(
                "`num_groups` must be the number of `groups`, or be left out. "
                f"Received: num_groups={num_groups}, groups={groups}"
            )
        is_dict = isinstance(groups, dict)
        self.num_groups = len(groups) if groups is not None else num_groups or 4
        self.group_names = (
            list(groups)
            if is_dict
            else [f"group_{k}" for k in range(self.num_groups)]
        )
        values = groups.values() if is_dict else groups
        self._groups = values and [[int(c) for c in v] for v in values]
        self.num_classes = num_classes
        self.method = method
        self._assignment = None
        if num_classes is not None:
            self._create_assignment()

    @property
    def state(self):
        return self._assignment

    @property
    def groups(self):
        """List of lists of class ids, or `None` before they are found."""
        if self._assignment is None:
            return self._groups
        return self._assignment.groups

    def assign_groups(self, groups):
        """Changes the groups, also of a model that is being trained.

        Args:
            groups: List of lists of class ids, each class once. There may be
                fewer than `num_groups`.

        Raises:
            ValueError: If a class is missing, twice, or out of range.
        """
        groups = [[int(c) for c in classes] for classes in groups]
        groups += [[] for _ in range(self.num_groups - len(groups))]
        if self._assignment is not None:
            self._assignment.assign(groups)
        self._groups = groups

    def adapt(self, model, dataset, **options):
        """Finds the groups from the gradients of the classes.

        Classes are in one group where their gradients point the same way, or,
        with `method="released"`, as by GBG's code.

        Args:
            model: The model, built.
            dataset: The training data, `(x, y)` or any iterable of batches.
            **options: As in `keras_mimo.grouping.find_groups()`. `method`
                defaults to that of this objective.

        Returns:
            A `keras_mimo.grouping.ClassGrouping`: the groups, how well they
            agree, the affinity of the classes and their numbers of samples.
        """
        # Not needed to train, and in need of scikit-learn.
        from keras_mimo.grouping import find_groups

        num_classes = self.num_classes or _num_classes(model)
        if num_classes is None:
            raise ValueError(
                "`num_classes` must be given to `ClassGroups` for a subclassed "
                "model. Received: num_classes=None"
            )
        options = {"method": self.method, **options}
        grouping = find_groups(
            model, dataset, self.num_groups, num_classes, **options
        )
        self.assign_groups(grouping.groups)
        return grouping

    def check_labels(self, y, model):
        num_classes = self.num_classes or _num_classes(model)
        if num_classes is None:
            return
        allowed = ignored_classes(tree.flatten(self._loss))
        allowed |= missing_values(self.within.missing_label)
        for labels in tree.flatten(y):
            if hasattr(labels, "shape") and labels.shape[1:] != (num_classes,):
                check_class_ids(labels, num_classes, allowed)

    def get_config(self):
        groups = self.groups
        if groups is not None:
            groups = dict(zip(self.group_names, groups, strict=True))
        return {
            "groups": groups,
            "num_groups": None if groups else self.num_groups,
            "num_classes": self.num_classes,
            "method": self.method,
            **super().get_config(),
        }

    def _create_assignment(self):
        self._assignment = ClassAssignment(
            self._groups, self.num_groups, self.num_classes
        )

    def _recorder(self, losses, weights, output, weigh_sum):
        return _GroupRecorder(
            losses, weights, self._records, output, weigh_sum, self
        )

    def members(self, y, y_pred, ignored=()):
        """The labels, and which groups samples belong to.

        Returns:
            `Labels`, and a tensor of shape `(..., num_groups)`.
        """
        if self._assignment is None:
            # One output for two classes: a probability.
            self.num_classes = max(2, int(y_pred.shape[-1]))
            self._create_assignment()
        same_rank = len(y.shape) == len(y_pred.shape)
        if same_rank and y.shape[-1] == self.num_classes:
            return Labels(y, y, None, 0), self._assignment.of_indicators(y)
        groups = self._assignment(ops.squeeze(y, -1) if same_rank else y)
        known, unknown = replace_unknown(y, self.num_classes, ignored)
        return Labels(y, known, self.num_classes, unknown), groups

    def _build(self, records, y_pred):
        super()._build(records, y_pred)
        outputs = self.names
        if len(outputs) == 1:
            self.names = list(self.group_names)
        else:
            self.names = [f"{o}_{g}" for o in outputs for g in self.group_names]
        self._group_trackers = [
            keras.metrics.Mean(name=f"{name}_loss") for name in self.names
        ]
        self.metrics = [*self.metrics, *self._group_trackers]

    def _losses(self, records):
        count = self.num_groups
        return [r.values.parts[k] for r in records for k in range(count)]

    def _active(self, records):
        return ops.concatenate([r.values.whole for r in records]) > 0

    def _track(self, records, y_pred):
        pairs = [
            (r.values.means[k], r.values.counts[k])
            for r in records
            for k in range(self.num_groups)
        ]
        for tracker, (mean, count) in zip(
            self._group_trackers, pairs, strict=True
        ):
            tracker.update_state(mean, sample_weight=count)


class _GroupLosses(NamedTuple):
    """Tensors with an entry for each group.

    Args:
        parts: What a replica's samples add to the mean over those of all.
        whole: Numbers of samples of all replicas.
        means: Mean losses of a replica's samples, for the logs.
        counts: Numbers of a replica's samples.
    """

    parts: Any
    whole: Any
    means: Any
    counts: Any


class _GroupRecorder(Recorder):
    """Keeps the mean losses of the groups and their numbers of samples."""

    def __init__(self, losses, weights, sink, output, weigh_sum, objective):
        super().__init__(losses, weights, sink, output, weigh_sum)
        self._objective = objective

    def __call__(self, y_true, y_pred, sample_weight=None):
        with self._explained(self.name, y_true, y_pred, sample_weight):
            labels, members = self._objective.members(
                y_true, y_pred, ignored_classes(self.losses)
            )
            y_true = labels.known
            losses = self._resolved(y_true, y_pred)
            terms = sum(
                weight * per_sample(loss, y_true, y_pred, sample_weight)
                for loss, weight in zip(losses, self.weights, strict=True)
            )
        members = ops.cast(members, terms.dtype)
        for weight in (get_keras_mask(y_pred), sample_weight):
            if weight is not None:
                members = members * is_present(weight, terms)
        members = ops.reshape(members, (-1, members.shape[-1]))
        counts = ops.sum(members, axis=0)
        # A where: a loss that is not finite must not reach other groups.
        terms = ops.where(members > 0, ops.reshape(terms, (-1, 1)), 0.0)
        totals = ops.sum(terms, axis=0)
        parts = means = totals / ops.maximum(counts, 1.0)
        whole = whole_counts(counts)
        if whole is not counts:
            parts = totals / ops.where(whole > 0, whole, 1.0)
        values = _GroupLosses(parts, whole, means, counts)
        whole_losses = [
            self._value(loss, name, y_true, y_pred, sample_weight)
            for loss, name in zip(losses, self.loss_names, strict=True)
        ]
        return self._record(values, None, labels, whole_losses, y_pred)


def per_sample(loss, y_true, y_pred, sample_weight):
    """The losses before Keras reduces them, with masks and sample weights."""
    loss = without_reduction(get_loss(loss, y_true, y_pred))
    return loss(y_true, y_pred, sample_weight=sample_weight)


def is_present(weight, terms):
    """1 where a mask or weight is not 0, for terms of the losses, and a 1."""
    weight = ops.cast(weight, terms.dtype)
    if len(weight.shape) > len(terms.shape):
        weight = ops.squeeze(weight, -1)
    missing = len(terms.shape) - len(weight.shape)
    weight = ops.reshape(weight, (*ops.shape(weight), *([1] * missing)))
    present = ops.broadcast_to(weight != 0, ops.shape(terms))
    return ops.cast(present, terms.dtype)[..., None]


def _num_classes(model):
    """The last axis of the predictions, `None` if that is not known."""
    if not hasattr(model, "output_names"):
        return None
    # One output for two classes: a probability.
    return max(2, tree.flatten(model.output)[0].shape[-1])


def _check_positive(argument, value):
    valid = isinstance(value, numbers.Integral) and value > 0
    if value is not None and (not valid or isinstance(value, bool)):
        raise ValueError(
            f"`{argument}` must be a positive integer or None. "
            f"Received: {argument}={value!r}"
        )
