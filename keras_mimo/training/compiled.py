import itertools

import keras
import numpy as np
from keras import ops

from keras_mimo.combiners.rows import row_sizes
from keras_mimo.training.replicas import whole_batch
from keras_mimo.utils._keras import scale_loss_for_distribution


class CompiledObjectives:
    """An objective and a combiner, where Keras keeps its `CompileLoss`.

    It computes the K losses, asks the combiner for weights and the scalar to
    descend, and keeps the metrics that report them.

    Args:
        objective: A compiled `keras_mimo.objectives.Objective`.
        combiner: A `keras_mimo.combiners.BalancedGradientCombiner`.
        blocks: Function without arguments that returns the blocks of variables
            for each of which the combiner is solved, a list of lists.
    """

    def __init__(self, objective, combiner, blocks):
        self.objective = objective
        self.combiner = combiner
        # One for each block, if it has state: the first is `combiner`.
        self.combiners = [combiner]
        self._blocks = blocks
        self.built = False
        self.training_metrics = []
        self._weight_tracker = None
        self._conflict_tracker = None

    @property
    def metrics(self):
        """Metrics reported in training and in evaluation."""
        return self.objective.metrics

    def losses(self, y, y_pred, sample_weight=None):
        """The losses of a replica, and of the whole batch.

        Returns:
            List of K scalars, the losses that gradients are taken of; what
            `replicas.whole_batch()` makes of them: tensor of shape `(K,)`, and
            the active mask.
        """
        losses, active = self.objective(y, y_pred, sample_weight)
        if not self.built:
            self._build()
        return losses, *whole_batch(losses, active)

    def scalar(self, losses, active, training):
        """The scalar that a combiner of losses descends."""
        if self.combiner.needs != "losses":
            scalar = self.combiner.scalarize(losses, None, active)
            return scale_loss_for_distribution(scalar)
        weights = self.combiner(
            ops.stop_gradient(losses), active=active, training=training
        )
        if training and self._weight_tracker is not None:
            self._weight_tracker.update_state(weights, 1)
        scalar = self.combiner.scalarize(losses, weights, active)
        return scale_loss_for_distribution(scalar)

    def weights(self, losses, gramians, reached, active):
        """The weights that the combiner gives to the objectives.

        Args:
            losses: Tensor of shape `(K,)`.
            gramians: For each block of variables, a Gramian.
            reached: For each block, a list of K booleans: which objectives
                depend on it. The others take no part there.
            active: Boolean tensor of shape `(K,)`.

        Returns:
            For each block, a tensor of shape `(K,)`.
        """
        reached = np.array(reached)
        actives = [active & ops.convert_to_tensor(r) for r in reached]
        weights = self._ask(losses, gramians, actives)
        if self._weight_tracker is not None:
            self._weight_tracker.update_state(sum(weights), reached.sum(axis=0))
        if self._conflict_tracker is not None:
            self._conflict_tracker.update_state(conflict(gramians, actives))
        return weights

    def kept_weights(self, losses, active, num_blocks):
        """`weights()` in a step for which the combiner needs no Gramian."""
        return self._ask(losses, [None] * num_blocks, [active] * num_blocks)

    def _ask(self, losses, gramians, actives):
        blocks = zip(itertools.cycle(self.combiners), gramians, actives)
        return [
            combiner(losses, gramian=gramian, active=active, training=True)
            for combiner, gramian, active in blocks
        ]

    @property
    def state(self):
        """Variables that a training step may change, beside the model's."""
        variables = [v for c in self.combiners for v in c.variables]
        for metric in self.training_metrics:
            variables.extend(metric.variables)
        return variables

    def build_combiners(self, names):
        """Creates the state of the combiner, or combiners, for objectives."""
        blocks = self._blocks()
        if not self.combiner.built:
            _build(self.combiner, names, blocks[:1])
        elif list(self.combiner.objective_names) != list(names):
            raise ValueError(
                f"`combiner` was built for the objectives "
                f"{self.combiner.objective_names} and can't be used for "
                f"{names}. Pass a new instance to `compile()`."
            )
        elif self.combiner.keeps_rows:
            self._check_sizes(blocks)
        if self.combiner.variables and len(self.combiners) == 1:
            config = self.combiner.get_config()
            for index in range(1, len(blocks)):
                copy = type(self.combiner).from_config(config)
                _build(copy, names, blocks[index : index + 1])
                self.combiners.append(copy)

    def _check_sizes(self, blocks):
        sizes = row_sizes(blocks[0]) if blocks else ()
        if self.combiner.row_sizes != sizes:
            raise ValueError(
                "`combiner` was built for balanced variables of the sizes "
                f"{self.combiner.row_sizes} and can't be used for those of "
                f"{sizes}. Pass a new instance to `compile()`."
            )

    def _build(self):
        names = self.objective.names
        self.build_combiners(names)
        several = len(names) > 1
        if several and self.combiner.needs != "gradients":
            self._weight_tracker = MeanTracker(names, "weight")
            self.training_metrics.append(self._weight_tracker)
        if several and self.combiner.needs == "gramian":
            self._conflict_tracker = keras.metrics.Mean(name="conflict")
            self.training_metrics.append(self._conflict_tracker)
        self.built = True


def _build(combiner, names, blocks):
    if combiner.keeps_rows and blocks:
        combiner.row_sizes = row_sizes(blocks[0])
    combiner.build(names)


class MeanTracker(keras.metrics.Metric):
    """The mean of a number for every objective, logged as `<objective>_<what>`.

    One metric: K of them would cost more than the combiner, on PyTorch.
    """

    def __init__(self, names, what):
        super().__init__(name=what)
        self._names = list(names)
        self._what = what
        self._total = self.add_variable(
            (len(self._names),), keras.initializers.Zeros(), name="total"
        )
        self._count = self.add_variable(
            (len(self._names),), keras.initializers.Zeros(), name="count"
        )

    def update_state(self, numbers, counts):
        self._total.assign_add(ops.cast(numbers, self._total.dtype))
        self._count.assign_add(ops.cast(counts, self._count.dtype))

    def result(self):
        means = self._total / ops.maximum(self._count, 1.0)
        return {
            f"{name}_{self._what}": means[k]
            for k, name in enumerate(self._names)
        }


def conflict(gramians, actives):
    """Share of the pairs of active objectives whose gradients conflict."""
    pairs = [
        ops.triu(ops.cast(a[:, None] & a[None, :], g.dtype), k=1)
        for g, a in zip(gramians, actives, strict=True)
    ]
    opposed = [
        ops.sum(ops.cast(gramian < 0, gramian.dtype) * p)
        for gramian, p in zip(gramians, pairs, strict=True)
    ]
    count = sum(ops.sum(p) for p in pairs)
    return sum(opposed) / ops.maximum(count, 1.0)
