import dataclasses
import math

import keras
import numpy as np
from keras import tree

from keras_mimo.diagnostics.absence import AbsentModalities
from keras_mimo.diagnostics.shapley import MAX_EXACT
from keras_mimo.diagnostics.shapley import all_subsets
from keras_mimo.diagnostics.shapley import beginnings
from keras_mimo.diagnostics.shapley import exact_parts
from keras_mimo.diagnostics.shapley import mean_parts
from keras_mimo.diagnostics.shapley import orders as random_orders
from keras_mimo.diagnostics.shapley import sampled_parts
from keras_mimo.fusion.held_out import are_arrays
from keras_mimo.fusion.held_out import check_lengths
from keras_mimo.fusion.held_out import check_model
from keras_mimo.fusion.held_out import check_not_empty
from keras_mimo.fusion.held_out import check_outputs
from keras_mimo.fusion.held_out import check_weights
from keras_mimo.fusion.held_out import labelled_batches
from keras_mimo.fusion.scores import scores
from keras_mimo.fusion.scores import worth
from keras_mimo.fusion.tasks import are_probabilities
from keras_mimo.fusion.tasks import check_task
from keras_mimo.fusion.tasks import missing_labels
from keras_mimo.fusion.tasks import targets

# Orders that are drawn where there are too many sets for all of them.
_ORDERS = 32


@dataclasses.dataclass(eq=False)
class Contributions:
    """What each modality does for a model, on data: see `contributions()`.

    A score is a dict of `"log_loss"`, `"accuracy"` and `"calibration_error"`,
    or of `"mean_squared_error"` for a regression.

    Attributes:
        task: `"classification"`, `"multilabel"` or `"regression"`.
        modalities: List of names.
        num_samples: Integer, how many samples were scored.
        fused: Score of the fused output.
        alone: Dict from modalities to the score of their own output, on the
            samples that have the modality (`None` where there are none). That
            of the fused output without all others, where a modality has none.
        lost: Dict from modalities to the score of the fused output without it.
        values: Dict from frozen sets of modalities to the accuracy of the fused
            output where all others are absent, or to minus the mean squared
            error; of all sets that the parts were computed from.
        parts: Dict from modalities to their Shapley part of the difference
            between the values of all modalities and of none.
        errors: Dict from modalities to the standard error of that part, `None`
            where it is exact.
        outputs: Dict from `"fused"`, the modalities and all other outputs of
            the model to arrays of shape `(samples, width)`: logits, or values.
        targets: Array of that shape.
        weights: Array of shape `(samples,)` that sums to 1.
        present: Dict from modalities that samples may lack to arrays of
            booleans: which of the samples have them.
        worths: Dict from the frozen sets of all modalities, and of all but one,
            to arrays of shape `(samples,)`, of which `values` are the means.
        sample_parts: Dict from modalities to such arrays, of which `parts` are
            the means.
    """

    task: str
    modalities: list
    num_samples: int
    fused: dict
    alone: dict
    lost: dict
    values: dict
    parts: dict
    errors: dict | None
    outputs: dict
    targets: np.ndarray
    weights: np.ndarray
    present: dict
    worths: dict
    sample_parts: dict

    @property
    def worst_lost(self):
        """The modality without which the fused output is worst."""
        return min(
            self.modalities,
            key=lambda m: self.values[frozenset(self.modalities) - {m}],
        )


def contributions(
    model,
    x,
    y=None,
    sample_weight=None,
    task=None,
    batch_size=256,
    verbose=0,
):
    """What each modality does for the fused output of a model, on data.

    The fused output is computed for sets of modalities, all others absent: what
    the model itself calls absent, where it was made with `missing=`, by
    `mask_modalities()` or by `intermediate_fusion()`; else zeros for the input
    (ones for ids of words, where zeros are masked).

    The Shapley part of a modality is what it adds to the accuracy, averaged
    over all orders in which the modalities could come one by one. The parts add
    up to the accuracy with all modalities minus that with none. They are exact
    for up to six modalities, from `2 ** modalities` passes; beyond, they are
    means over 32 random orders, with a standard error.

    Classes that share the highest logit share the hit, as where all modalities
    are absent and the logits are zeros.

    Args:
        model: A `MultimodalModel`. What is scored is the fused output of
            inference: calibrated, if the model is.
        x: Data that the model was not trained on: a dict of arrays, or a
            dataset of batches `(x, y)` or `(x, y, sample_weight)`.
        y: Labels, where `x` is arrays, as in `keras_mimo.calibrate_fusion()`.
        sample_weight: Optional array of shape `(samples,)`, where `x` is
            arrays.
        task: `"classification"`, `"multilabel"` or `"regression"`. Defaults to
            `None`: as the loss tells that the model was compiled with.
        batch_size: Integer, where `x` is arrays. Defaults to `256`.
        verbose: Whether to show a progress bar. Defaults to `0`.

    Returns:
        A `Contributions`.

    Raises:
        TypeError: If `model` is no `MultimodalModel`, or `x` is no data.
        ValueError: If labels, weights or outputs don't fit or are not finite,
            if `task` is not known, or if modalities share an input.

    Example:

    ```python
    found = keras_mimo.diagnostics.contributions(model, x_test, y_test)
    found.fused["accuracy"], found.parts
    ```
    """
    check_model(model)
    task = check_task(task, model)
    absence = AbsentModalities(model)
    names = absence.modalities
    everything = frozenset(names)
    lost = {name: everything - {name} for name in names}
    singles = [frozenset([n]) for n in names if n not in model.output]
    orders = None
    groups = all_subsets(names)
    if len(names) > MAX_EXACT:
        orders = random_orders(names, _ORDERS)
        groups = [group for order in orders for group in beginnings(order)]
    groups = dict.fromkeys([*groups, *lost.values(), *singles])

    kept = _Kept([everything, *lost.values(), *singles])
    number = _number_of_batches(x, batch_size)
    bar = keras.utils.Progbar(number, verbose=verbose, unit_name="batch")
    data = _batches(x, y, sample_weight, batch_size)
    for count, (batch, labels, weights, size) in enumerate(data, start=1):
        values, own, present = absence.encode(batch)
        fused = {g: absence.fuse(values, g)[:size] for g in groups}
        own = {k: z[:size] for k, z in own.items()}
        present = {k: flags[:size] for k, flags in present.items()}
        check_lengths(fused[everything], labels, weights)
        width = fused[everything].shape[-1]
        wanted, unknown = targets(task, labels, width, missing_labels(model))
        kept.add(task, fused, own, present, wanted, unknown, weights)
        bar.update(count, finalize=False)
    check_not_empty(x, kept.wanted)
    bar.update(count, finalize=True)
    return kept.contributions(task, names, lost, orders)


class _Kept:
    """What is kept of batches.

    Args:
        whole: The sets of modalities whose logits are kept; of the others only
            what they are worth is.
    """

    def __init__(self, whole):
        self._whole = whole
        self._logits = {}
        self._worth = {}
        self._present = {}
        self._unknown = []
        self._weights = []
        self._convert = None
        self.wanted = []

    def add(self, task, fused, own, present, wanted, unknown, weights):
        everything = self._whole[0]
        if self._convert is None:
            likely = are_probabilities(task, fused[everything])
            self._convert = _to_logits(task) if likely else np.asarray
        for key, z in [*fused.items(), *own.items()]:
            check_outputs({_title(key): z})
            z = self._convert(z)
            if key in self._whole or isinstance(key, str):
                self._logits.setdefault(key, []).append(z)
            if not isinstance(key, str):
                value = worth(task, z, wanted)
                self._worth.setdefault(key, []).append(value)
        for modality, flags in present.items():
            self._present.setdefault(modality, []).append(flags)
        if own and len(present) == len(own):
            # Of a sample without any modality there is nothing to score.
            unknown = unknown | ~np.any(list(present.values()), axis=0)
        self.wanted.append(wanted)
        self._unknown.append(unknown)
        self._weights.append(weights)

    def contributions(self, task, names, lost, orders):
        logits, worths, present = (
            {key: np.concatenate(parts) for key, parts in kept.items()}
            for kept in (self._logits, self._worth, self._present)
        )
        wanted = np.concatenate(self.wanted)
        unknown = np.concatenate(self._unknown)
        weights = check_weights(np.concatenate(self._weights), unknown)
        values = {group: float(weights @ w) for group, w in worths.items()}
        everything = self._whole[0]
        outputs = {key: z for key, z in logits.items() if isinstance(key, str)}
        outputs["fused"] = logits[everything]
        alone = {}
        for name in names:
            outputs.setdefault(name, logits.get(frozenset([name])))
            there = weights * present.get(name, 1)
            alone[name] = None
            if there.any():
                there = there / there.sum()
                alone[name] = scores(task, outputs[name], wanted, there)
        if orders is None:
            parts, errors = exact_parts(names, values), None
            sample_parts = exact_parts(names, worths)
        else:
            parts, errors = sampled_parts(names, values, orders)
            sample_parts = mean_parts(names, worths, orders)
        return Contributions(
            task=task,
            modalities=names,
            num_samples=int(np.count_nonzero(weights)),
            fused=scores(task, logits[everything], wanted, weights),
            alone=alone,
            lost={
                name: scores(task, logits[group], wanted, weights)
                for name, group in lost.items()
            },
            values=values,
            parts=parts,
            errors=errors,
            outputs=outputs,
            targets=wanted,
            weights=weights,
            present={
                name: flags.astype(bool) for name, flags in present.items()
            },
            worths={g: worths[g] for g in [everything, *lost.values()]},
            sample_parts=sample_parts,
        )


def _batches(x, y, sample_weight, batch_size):
    """Batches that are all as long as the longest before, and their lengths.

    One that is shorter is filled with its first sample: nothing is compiled
    again for it.
    """
    longest = 0
    for batch, labels, weights in _parts(x, y, sample_weight, batch_size):
        batch = tree.map_structure(np.asarray, batch)
        size = len(tree.flatten(batch)[0])
        longest = max(longest, size)
        if size:
            indices = np.append(np.arange(size), np.zeros(longest - size, int))
            yield _taken(batch, indices), labels, weights, size


def _parts(x, y, sample_weight, batch_size):
    for batch, labels, weights in labelled_batches(x, y, sample_weight):
        if not are_arrays(x):
            yield batch, labels, weights
            continue
        batch = tree.map_structure(keras.ops.convert_to_numpy, batch)
        check_lengths(*tree.flatten(batch), labels, weights)
        for first in range(0, len(labels), batch_size):
            chosen = slice(first, first + batch_size)
            yield _taken(batch, chosen), labels[chosen], weights[chosen]


def _number_of_batches(x, batch_size):
    """How many batches data have, `None` where they don't tell."""
    if are_arrays(x):
        return math.ceil(len(tree.flatten(x)[0]) / batch_size)
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches
    # That of a tf.data.Dataset is below 0 where it is not known.
    number = int(x.cardinality()) if hasattr(x, "cardinality") else -1
    return number if number >= 0 else None


def _taken(batch, chosen):
    return tree.map_structure(lambda values: values[chosen], batch)


def _to_logits(task):
    """A function from probabilities to logits that give them."""

    def convert(p):
        p = np.clip(p.astype("float64"), 1e-7, 1)
        if task == "classification":
            return np.log(p)
        return np.log(p) - np.log(np.clip(1 - p, 1e-7, 1))

    return convert


def _title(key):
    if isinstance(key, str):
        return key
    return f"fused with {', '.join(sorted(key)) or 'no modality'}"
