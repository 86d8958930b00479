import itertools

import keras
import numpy as np

from keras_mimo import gradients
from keras_mimo.combiners.rows import row_sizes
from keras_mimo.solvers import ops
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
        self._tracker = None

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

        def weigh(losses, active):
            weights = self.combiner(
                ops.stop_gradient(losses), active=active, training=training
            )
            return weights, self.combiner.scalarize(losses, weights, active)

        if self.combiner.also_in_numpy():
            weights, scalar = gradients.small_scalar(weigh, losses, active)
        else:
            weights, scalar = weigh(losses, active)
        if training and self._tracker is not None:
            self._tracker.update_state(weights, 1)
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

        def ask(losses, active, *gramians):
            actives = [active & ops.convert_to_tensor(r) for r in reached]
            weights = self._ask(losses, gramians, actives)
            share = ops.cast(conflict(gramians, actives), weights[0].dtype)
            return [ops.append(sum(weights), share), *weights]

        tensors = [ops.stop_gradient(losses), active, *gramians]
        if all(combiner.also_in_numpy() for combiner in self.combiners):
            numbers, *weights = gradients.small(ask, tensors)
        else:
            numbers, *weights = ask(*tensors)
        if self._tracker is not None:
            counts = np.append(reached.sum(axis=0), 1)
            if self.objective.many:
                numbers, counts = numbers[-1:], counts[-1:]
            self._tracker.update_state(numbers, counts)
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
            logged = [] if self.objective.many else names
            tracked = [f"{name}_weight" for name in logged]
            if self.combiner.needs == "gramian":
                tracked.append("conflict")
            if tracked:
                self._tracker = MeanTracker(tracked, "weight")
                self.training_metrics.append(self._tracker)
        self.built = True


def _build(combiner, names, blocks):
    if combiner.keeps_rows and blocks:
        combiner.row_sizes = row_sizes(blocks[0])
    combiner.build(names)


class MeanTracker(keras.metrics.Metric):
    """The means of several numbers, logged under their names.

    One metric: K of them would cost more than the combiner, on PyTorch.
    """

    def __init__(self, names, name):
        super().__init__(name=name)
        self._names = list(names)
        # Totals and counts in one: to assign takes longer than to add.
        self._sums = self.add_variable(
            (2, len(self._names)), keras.initializers.Zeros(), name="sums"
        )

    def update_state(self, numbers, counts):
        gradients.engine().add_rows(self._sums, [numbers, counts])

    def result(self):
        total, count = self._sums[0], self._sums[1]
        means = keras.ops.unstack(total / ops.maximum(count, 1.0))
        return dict(zip(self._names, means, strict=True))


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
