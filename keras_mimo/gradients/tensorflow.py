import contextlib
import copy
import functools

import keras
import tensorflow as tf

from keras_mimo.gradients import metrics
from keras_mimo.gradients import modulated
from keras_mimo.gradients import skipped
from keras_mimo.gradients.branch import traced_branch
from keras_mimo.gradients.flat import FlatRows
from keras_mimo.gradients.rewind import Rewind
from keras_mimo.gradients.sparse import SparseGradient
from keras_mimo.gradients.taps import recorded


def replicas():
    # Outside of a step, such as while a model is built, there is one.
    if tf.distribute.in_cross_replica_context():
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def whole(tensors):
    """From the parts that replicas have to the whole, which is their sum."""
    if replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def part_of_sum(loss):
    """A replica's part of a loss that is a sum over samples."""
    return loss


def on_replicas(model, step):
    """The training step: the optimizer itself sums the gradients."""
    strategy = tf.distribute.get_strategy()
    if replicas() > 1:
        _check_scope(model, strategy)
    if not _has_workers(strategy):
        return step

    def worker_step(*args):
        # Keras averages logs over an axis, which its own do not have.
        logs = step(*args)
        return tf.nest.map_structure(lambda v: tf.reshape(v, (1,)), logs)

    return worker_step


def _check_scope(model, strategy):
    outside = [
        variable.path
        for keeper in [*model._combiners, model.modulation]
        if keeper is not None
        for variable in keeper.variables
        if not strategy.extended.variable_created_in_scope(variable.value)
    ]
    if outside:
        raise ValueError(
            "`combiner` and `modulation` must be created in the scope of the "
            "strategy, for each replica to have their state. Received: these "
            f"variables from elsewhere: {outside}"
        )


def _has_workers(strategy):
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


undo_skipped = skipped.undo_skipped
add_rows = metrics.add_rows
update_means = metrics.update_means


def branch(predicate, function, other, state):
    """As `traced_branch()`, in which replicas can't meet to exchange rows."""
    if replicas() > 1:
        # The combiner knows which steps it is to take no notice of.
        return function()
    return traced_branch(predicate, function, other, state)


def make_train_function(model, make):
    """Makes Keras' train function: a branch costs nothing here."""
    make()


def symbolic_build(model, iterator, data_batch):
    """Builds a model's objectives, combiner and optimizer, as JAX does."""
    if iterator is None:
        keras.Model._maybe_symbolic_build(model, iterator, data_batch)
        return
    # The dataset tells what its batches look like, and none is drawn: Keras
    # can't use what a `MultiWorkerMirroredStrategy` draws.
    spec = tf.nest.map_structure(
        _spec_of_replica, iterator._distributed_dataset.element_spec
    )
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=spec)


def _spec_of_replica(spec):
    spec = getattr(spec, "_value_specs", [spec])[0]
    # The specification of a label that is None has no shape.
    return spec if hasattr(spec, "shape") else None


def with_reach(train_step):
    """The training step itself: tracing keeps what depends on what."""
    return train_step


def gramian(matrix):
    # TensorFlow rounds float32 to TF32 in a GPU's matrix products.
    if tf.config.list_logical_devices("GPU"):
        return tf.stack(
            [tf.reduce_sum(matrix * row, axis=1) for row in tf.unstack(matrix)]
        )
    return tf.matmul(matrix, matrix, transpose_b=True)


def gramian_of_sums(matrix):
    """The Gramian of the sums over replicas of rows."""
    return gramian(whole([matrix])[0])


def gramian_of_samples(matrix):
    """The Gramian of rows of which replicas have some columns each."""
    return whole([gramian(matrix)])[0]


class Pullback:
    """Gradients of the outputs of one forward pass, one row at a time.

    Args:
        tape: A persistent `tf.GradientTape`.
        outputs: List of scalars.
        variables: List of variables.
        taps: List of tensors.
        keep_rows: Whether the gradient of a table is a `SparseGradient`.
        at_once: Whether `rows()` is to be preferred to `row()`.
    """

    def __init__(self, tape, outputs, variables, taps, keep_rows, at_once):
        self._tape = tape
        self._outputs = outputs
        self._variables = variables
        self._taps = taps
        self._keep_rows = keep_rows
        self.at_once = at_once
        self.num_objectives = len(outputs) - 1
        self._one = tf.ones(())

    keep = FlatRows

    def after(self, tensors):
        """The same gradients, computed no sooner than these tensors."""
        numbers = [
            tf.reshape(_tensor(tensor), (-1,))[0]
            for tensor in tensors
            if tensor is not None
        ]
        later = copy.copy(self)
        later._one = _one_after(numbers)
        return later

    def row(self, k, indices):
        output = self._outputs[k]
        one = tf.cast(self._one, output.dtype)
        return self._of_variables([output], [one], indices)

    def rows(self, indices):
        return self._rows([self._variables[index] for index in indices])

    def rows_at_taps(self):
        return self._rows(self._taps)

    def _rows(self, sources):
        outputs = self._outputs[: self.num_objectives]
        # In a compiled step no one computes what is only looked at here.
        alone = [self._tape.gradient(output, sources) for output in outputs]
        reached = [[g is not None for g in row] for row in alone]
        there = [any(column) for column in zip(*reached, strict=True)]
        found = [
            s for s, is_there in zip(sources, there, strict=True) if is_there
        ]

        def row(cotangents):
            gradients = self._tape.gradient(
                outputs, found, output_gradients=tf.unstack(cotangents)
            )
            return [_tensor(gradient) for gradient in gradients]

        dtype = outputs[0].dtype
        eye = tf.eye(len(outputs), dtype=dtype) * tf.cast(self._one, dtype)
        stacked = map(tf.unstack, tf.vectorized_map(row, eye))
        parts = [next(stacked) if t else [None] * len(outputs) for t in there]
        return [
            [g if is_there else None for g, is_there in zip(*pair, strict=True)]
            for pair in zip(zip(*parts, strict=True), reached, strict=True)
        ]

    def weighted(self, weights, indices):
        weights = tf.unstack(weights)
        outputs = self._outputs[: len(weights)]
        weights = [
            tf.cast(weight, output.dtype)
            for weight, output in zip(weights, outputs, strict=True)
        ]
        return self._of_variables(outputs, weights, indices)

    def at_taps(self, k):
        gradients = self._tape.gradient(self._outputs[k], self._taps)
        return [_tensor(gradient) for gradient in gradients]

    def _of_variables(self, outputs, cotangents, indices):
        variables = [self._variables[index] for index in indices]
        gradients = self._tape.gradient(
            outputs, variables, output_gradients=cotangents
        )
        if not self._keep_rows:
            return [_tensor(gradient) for gradient in gradients]
        return _keeping_rows(gradients, variables)


def _one_after(numbers):
    """The number 1, which no compiler knows before it knows these."""
    one = tf.ones(())
    for number in numbers:
        number = tf.abs(tf.cast(number, one.dtype))
        finite = tf.where(tf.math.is_finite(number), number, 0.0)
        one = tf.minimum(one, 1.0 + finite)
    return one


def _keeping_rows(gradients, variables):
    """Gradients, those of tables as `SparseGradient`."""
    return [
        _sparse(gradient, variable)
        if isinstance(gradient, tf.IndexedSlices)
        else gradient
        for gradient, variable in zip(gradients, variables, strict=True)
    ]


def _tensor(gradient):
    # The gradient of an embedding is a tf.IndexedSlices.
    return gradient if gradient is None else tf.convert_to_tensor(gradient)


def _sparse(slices, variable):
    shape = tuple(variable.shape)
    values = tf.reshape(slices.values, (-1, *shape[1:]))
    return SparseGradient.summed(values, slices.indices, shape)


def _slices(gradient):
    """A gradient as the optimizer takes it."""
    if not isinstance(gradient, SparseGradient):
        return gradient
    return tf.IndexedSlices(
        gradient.values, gradient.rows, tf.constant(gradient.shape)
    )


def _keeps_rows(model):
    """Whether a step can leave gradients of tables sparse."""
    if replicas() > 1 or model.combiner.needs == "gradients":
        # Replicas exchange whole gradients. What a combiner makes of the
        # coordinates that no sample reaches, it alone knows.
        return False
    if model.combiner.keeps_rows:
        # An average moves where no sample reaches too.
        return False
    if model.optimizer.loss_scale_factor is not None:
        # Which Keras divides only tensors by.
        return False
    # In XLA both branches of a step have the same number of rows.
    return not (model.jit_compile and model.combiner.is_periodic())


def train_step(model, data):
    """One step of a combiner of gradients, in the terms of Keras' trainer."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    taps = []
    probe = tf.zeros(())
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(probe)
        with recorded(model._tapped_layer(), taps):
            y_pred = model(x, **model._training_argument())
        losses = model._step_losses(x, y, y_pred, sample_weight, probe)
        scale = model.optimizer.scale_loss(tf.ones(()))
        outputs = [
            tf.cast(scale, loss.dtype) * loss
            for loss in [*losses.own, losses.additional]
        ]
    variables = model.trainable_weights
    model._track_loss(losses.total, x)
    factor = None
    if model._overrides_loss:
        factor = tape.gradient(losses.total, probe)
    gradients = model._combine_gradients(
        Pullback(
            tape,
            outputs,
            variables,
            taps,
            _keeps_rows(model),
            model._rows_at_once,
        ),
        losses.whole,
        losses.active,
        scale,
        factor,
    )
    del tape
    modulated.apply(model, gradients, variables, _slices)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def losses_step(model, keras_step):
    """The training step of a combiner of losses."""
    if model._modulated is None:
        return keras_step
    return functools.partial(_modulated_step, model)


def _modulated_step(model, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        y_pred = model(x, **model._training_argument())
        loss = model._compute_loss(x, y, y_pred, sample_weight, training=True)
        scaled = model.optimizer.scale_loss(loss)
    model._track_loss(loss, x)
    variables = model.trainable_weights
    gradients = _keeping_rows(tape.gradient(scaled, variables), variables)
    modulated.apply(model, gradients, variables, _slices)
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def look_again(model, train_step, data):
    """A step, and the losses of the same forward pass after it."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    rewind = Rewind(model)
    logs = train_step(data)
    with rewind:
        again = model._losses_again(x, y, sample_weight)
    if again is not None:
        model.combiner.after_step(*again)
    return logs


def agree(model):
    """Nothing: what shares a training here shares the variables too."""


def forked_random_state():
    """A context: the state of random numbers is in variables alone."""
    return contextlib.nullcontext()


def loss_gradients(model, losses, variables):
    """The gradients of losses, in inference mode.

    Args:
        model: A built model.
        losses: Function of what comes with the inputs and of the model's
            outputs that returns a list of scalars, and a tensor or `None`
            that is passed on.
        variables: List of trainable variables of the model.

    Returns:
        Function of `x` and what comes with it that returns, for each loss, a
        list with one gradient per variable, `None` where there is none; and
        what was passed on.
    """
    values = [variable.value for variable in variables]

    def gradients(x, given):
        # The tape then records no more than the paths to these variables.
        with tf.GradientTape(
            persistent=True, watch_accessed_variables=False
        ) as tape:
            tape.watch(values)
            found, passed_on = losses(given, model(x, training=False))
        rows = [tape.gradient(loss, values) for loss in found]
        return [[_tensor(g) for g in row] for row in rows], passed_on

    return gradients if model.run_eagerly else tf.function(gradients)
