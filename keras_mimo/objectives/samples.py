import keras
from keras import ops

from keras_mimo.objectives.class_groups import is_present
from keras_mimo.objectives.class_groups import per_sample
from keras_mimo.objectives.recorder import Recorder
from keras_mimo.objectives.recorder import name_of
from keras_mimo.objectives.split import Split
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils.arguments import check_units


@keras.saving.register_keras_serializable(package="keras_mimo")
class Samples(Split):
    """Every sample of a batch is an objective: its own loss.

    Instance-wise risk minimisation. The K losses are those of the samples
    before any reduction, so that `combiner="mean"` trains as Keras does. In a
    smaller batch the others are absent; so is a sample of weight 0, and one
    that is masked. In a larger batch sample `i` belongs to objective `i mod K`,
    the mean of its samples: K independent parts of the batch.

    A combiner of gradients takes K backward passes. Compare the samples over a
    few variables only, `balanced_variables=` those of the last layer: then all
    K are taken in one vectorised pass that goes no further than these, and one
    goes through the model. (It takes the memory of K: do not balance most of a
    large model so.)
    (`gradients_at=` has nothing to compare: a sample's gradient at the output
    of a layer is zero but for its own row.)

    The weights of samples are not logged.

    Args:
        batch_size: Positive integer K, how many samples a batch has, or how
            many parts.
        within: The `Outputs` whose objectives are split into samples, such as
            `keras_mimo.Modalities()`, with an objective `<output>_sample_<k>`
            for each pair. Defaults to `None`: `keras_mimo.Outputs()`, with
            objectives `sample_<k>` where the model has one output.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `batch_size` is not positive; when the model is built, if
            an output has several losses.

    Example:

    ```python
    head = keras.layers.Dense(10, name="logits")
    model = keras_mimo.BalancedModel(inputs, head(features))
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        objectives=keras_mimo.objectives.Samples(batch_size=64),
        combiner="upgrad",
        balanced_variables=head.trainable_variables,
    )
    model.fit(x, y, batch_size=64)
    ```

    Reference:

    - [Jacobian Descent for Multi-Objective Optimization](
        https://arxiv.org/abs/2406.16232)
    """

    many = True

    def __init__(self, batch_size, within=None):
        super().__init__(within)
        self.batch_size = check_units("batch_size", batch_size)
        # A replica does not know which samples the others have.
        self.across_replicas = False

    def labels(self, y, y_pred):
        return self.within.labels(y, y_pred)

    def get_config(self):
        return {"batch_size": self.batch_size, **super().get_config()}

    def _recorder(self, losses, weights, output, weigh_sum):
        if len(losses) > 1:
            raise ValueError(
                "`loss` must be one loss for each output with `Samples`. "
                f"Received: {[name_of(loss) for loss in losses]}"
            )
        return _SampleRecorder(
            losses, weights, self._records, output, weigh_sum, self.batch_size
        )

    def _build(self, records, y_pred):
        super()._build(records, y_pred)
        samples = [f"sample_{k}" for k in range(self.batch_size)]
        outputs = self.names
        self.names = samples
        if len(outputs) > 1:
            self.names = [
                f"{o}_{sample}" for o in outputs for sample in samples
            ]

    def _losses(self, records):
        losses = ops.concatenate([r.values[0] for r in records])
        return ops.unstack(losses, len(records) * self.batch_size)

    def _active(self, records):
        return ops.concatenate([r.values[1] for r in records]) > 0

    def _track(self, records, y_pred):
        """Nothing: Keras logs the losses of outputs."""


class _SampleRecorder(Recorder):
    """Keeps the losses of the samples, and which there are."""

    def __init__(self, losses, weights, sink, output, weigh_sum, count):
        super().__init__(losses, weights, sink, output, weigh_sum)
        self._count = count

    def __call__(self, y_true, y_pred, sample_weight=None):
        with self._explained(self.name, y_true, y_pred, sample_weight):
            losses = self._resolved(y_true, y_pred)
            labels = self._labels(losses, y_true, y_pred)
            y_true = labels.known
            terms = sum(
                weight * per_sample(loss, y_true, y_pred, sample_weight)
                for loss, weight in zip(losses, self.weights, strict=True)
            )
        present = ops.ones_like(terms)[..., None]
        for weight in (get_keras_mask(y_pred), sample_weight):
            if weight is not None:
                present = present * is_present(weight, terms)
        # A where: a loss that is not finite must not reach other samples.
        terms = ops.where(present > 0, terms[..., None], 0.0)
        counts = self._of_objectives(present)
        totals = self._of_objectives(terms)
        means = totals / ops.maximum(counts, 1.0)
        whole_losses = [
            self._value(loss, name, y_true, y_pred, sample_weight)
            for loss, name in zip(losses, self.loss_names, strict=True)
        ]
        values = (means, counts)
        return self._record(values, None, labels, whole_losses, y_pred)

    def _of_objectives(self, values):
        """Sums over the samples of each, a tensor of shape `(K,)`."""
        values = ops.sum(
            ops.reshape(values, (ops.shape(values)[0], -1)), axis=1
        )
        if values.shape[0] == self._count:
            return values
        place = ops.arange(ops.shape(values)[0]) % self._count
        return ops.segment_sum(values, place, num_segments=self._count)
