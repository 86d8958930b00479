import keras
from keras import ops


class CompiledObjectives:
    """An objective and a combiner, where Keras keeps its `CompileLoss`.

    It computes the K losses, asks the combiner for weights and the scalar to
    descend, and keeps the metrics that report them.

    Args:
        objective: A compiled `keras_mimo.objectives.Objective`.
        combiner: A `keras_mimo.combiners.BalancedGradientCombiner`.
    """

    def __init__(self, objective, combiner):
        self.objective = objective
        self.combiner = combiner
        self.built = False
        self.training_metrics = []
        self._weight_tracker = None
        self._conflict_tracker = None

    @property
    def metrics(self):
        """Metrics reported in training and in evaluation."""
        return self.objective.metrics

    def losses(self, y, y_pred, sample_weight=None):
        """Returns the K losses, a list of scalars, and the active mask."""
        losses, active = self.objective(y, y_pred, sample_weight)
        if not self.built:
            self._build()
        return losses, active

    def scalar(self, losses, active, training):
        """The scalar that a combiner of losses descends."""
        losses = ops.stack(losses)
        if self.combiner.needs != "losses":
            return self.combiner.scalarize(losses, None, active)
        weights = self.combiner(
            ops.stop_gradient(losses), active=active, training=training
        )
        if training:
            self._track_weights(weights)
        return self.combiner.scalarize(losses, weights, active)

    def weights(self, losses, gramian, active):
        """The weights that a combiner of gradients gives to the objectives."""
        weights = self.combiner(
            ops.stack(losses), gramian=gramian, active=active, training=True
        )
        self._track_weights(weights)
        self._conflict_tracker.update_state(conflict(gramian, active))
        return weights

    def _build(self):
        names = self.objective.names
        combiner = self.combiner
        if not combiner.built:
            combiner.build(names)
        elif list(combiner.objective_names) != list(names):
            raise ValueError(
                f"`combiner` was built for the objectives "
                f"{combiner.objective_names} and can't be used for {names}. "
                "Pass a new instance to `compile()`."
            )
        if len(names) > 1:
            self._weight_tracker = WeightTracker(names)
            self.training_metrics.append(self._weight_tracker)
        if combiner.needs != "losses":
            self._conflict_tracker = keras.metrics.Mean(name="conflict")
            self.training_metrics.append(self._conflict_tracker)
        self.built = True

    def _track_weights(self, weights):
        if self._weight_tracker is not None:
            self._weight_tracker.update_state(weights)


class WeightTracker(keras.metrics.Metric):
    """The mean weight of every objective, logged as `<objective>_weight`.

    One metric: K of them would cost more than the combiner, on PyTorch.
    """

    def __init__(self, names):
        super().__init__(name="weight")
        self._names = list(names)
        self._total = self.add_variable(
            (len(self._names),), keras.initializers.Zeros(), name="total"
        )
        self._count = self.add_variable(
            (), keras.initializers.Zeros(), name="count"
        )

    def update_state(self, weights):
        self._total.assign_add(ops.cast(weights, self._total.dtype))
        self._count.assign_add(1.0)

    def result(self):
        means = self._total / ops.maximum(self._count, 1.0)
        return {
            f"{name}_weight": means[k] for k, name in enumerate(self._names)
        }


def conflict(gramian, active):
    """Share of the pairs of active objectives whose gradients conflict."""
    pairs = ops.expand_dims(active, 0) & ops.expand_dims(active, 1)
    pairs = ops.triu(ops.cast(pairs, gramian.dtype), k=1)
    opposed = ops.cast(gramian < 0, gramian.dtype) * pairs
    return ops.sum(opposed) / ops.maximum(ops.sum(pairs), 1.0)
