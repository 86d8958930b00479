import contextlib
import contextvars
import copy
import functools

import jax
import jax.numpy as jnp
import keras
from jax.interpreters import partial_eval

from keras_mimo.gradients import metrics
from keras_mimo.gradients.branch import traced_branch
from keras_mimo.gradients.flat import FlatRows
from keras_mimo.gradients.skipped import combiner_state
from keras_mimo.gradients.taps import tapped


def replicas():
    # One program sees the whole batch, however many devices share it.
    return 1


def whole(tensors):
    """The tensors: they are of the whole batch."""
    return tensors


def part_of_sum(loss):
    """The loss, which is that of the whole batch."""
    return loss


def on_replicas(model, step):
    """The training step itself."""
    if jax.process_count() > 1 and keras.distribution.distribution() is None:
        raise ValueError(
            "Several processes of JAX train together only where "
            "`keras.distribution.set_distribution()` says how. "
            f"Received: {jax.process_count()} processes and no distribution"
        )
    return step


def undo_skipped(model, step):
    """As `keras_mimo.gradients.skipped.undo_skipped()`, of steps of values."""

    def undoing_step(state, data):
        logs, new_state = step(state, data)
        optimizer = model.optimizer
        paths = [variable.path for variable in optimizer.variables]
        index = paths.index(optimizer.inner_optimizer.iterations.path)
        skipped = state[2][index] == new_state[2][index]
        undone = {id(variable) for variable in combiner_state(model)}
        trainable, non_trainable, *others = new_state
        non_trainable = [
            jnp.where(skipped, old, new) if id(variable) in undone else new
            for variable, old, new in zip(
                model.non_trainable_variables,
                state[1],
                non_trainable,
                strict=True,
            )
        ]
        return logs, (trainable, non_trainable, *others)

    return undoing_step


# Which branch the step that is being compiled takes, `None` if both.
_known = contextvars.ContextVar("known", default=None)


def branch(predicate, function, other, state):
    """As `traced_branch()`, and as Python's own where it is known which."""
    known = _known.get()
    if known is None and isinstance(predicate, jax.core.Tracer):
        return traced_branch(predicate, function, other, state)
    return function() if (predicate if known is None else known) else other()


def make_train_function(model, make):
    """Makes a function that chooses between two compiled steps.

    In a branch of XLA's, convolutions on a CPU take forty times as long. The
    choice may have to wait for the step before.
    """
    make()
    if model.run_eagerly or not model.jit_compile:
        return
    if model.steps_per_execution > 1:
        # To wait after each step is what several at once are to avoid.
        return
    shardings = None
    if keras.distribution.distribution() is not None:
        shardings = (None, model._get_state_sharding_spec())

    def compiled(known):
        def step(state, data):
            token = _known.set(known)
            try:
                return model.train_step(state, data)
            finally:
                _known.reset(token)

        return jax.jit(step, donate_argnums=0, out_shardings=shardings)

    steps = {known: compiled(known) for known in (True, False)}
    # No operation of JAX: in a step of a millisecond that would be seen.
    counter = [v is model.combiner.step for v in model.non_trainable_variables]
    place = counter.index(True)
    watch = _CounterWatch(model.combiner.n)

    def step(state, iterator):
        due = watch.is_zero(state[1][place])
        logs, state = steps[due](state, next(iterator))
        watch.moved_to(state[1][place])
        return logs, state

    model.train_function = step


class _CounterWatch:
    """Tells when a counter of steps is 0, and seldom waits for its value.

    A step moves it on by one, or by none if it is undone: what is past 0 stays
    so until it may have come to the period.

    Args:
        period: Integer, from which on it is 0 again.
    """

    def __init__(self, period):
        self._period = period
        self._last = None
        self._highest = 0

    def is_zero(self, counter):
        known = counter is self._last and 1 < self._highest < self._period
        if not known:
            self._highest = int(counter)
        return self._highest == 0

    def moved_to(self, counter):
        self._last = counter
        self._highest += 1


def symbolic_build(model, iterator, data_batch):
    """Builds a model's objectives, combiner and optimizer, as Keras does."""
    keras.Model._maybe_symbolic_build(model, iterator, data_batch)


def with_reach(train_step):
    """The training step itself: tracing keeps what depends on what."""
    return train_step


def gramian(matrix):
    # The default precision of a matrix product is lower on GPU and TPU.
    return jnp.matmul(matrix, matrix.T, precision=jax.lax.Precision.HIGHEST)


gramian_of_sums = gramian_of_samples = gramian


class Pullback:
    """Gradients of the outputs of one forward pass, one row at a time."""

    def __init__(self, pushforward, trainable, probe, taps, outputs, at_once):
        self._pushforward = pushforward
        self._inputs = (trainable, probe, taps)
        self._outputs = outputs
        self.at_once = at_once
        self.num_objectives = len(outputs) - 1
        self._awaited = []
        self._jaxpr = jax.make_jaxpr(pushforward)(*self._inputs).jaxpr

    keep = FlatRows

    def after(self, tensors):
        """The same gradients, computed no sooner than these tensors."""
        later = copy.copy(self)
        later._awaited = [tensor for tensor in tensors if tensor is not None]
        return later

    def row(self, k, indices):
        trainable, _, _ = self._gradients([k], [1.0])
        reached = self._reached(k)
        return [trainable[i] if reached[i] else None for i in indices]

    def rows(self, indices):
        return self._rows(0, indices)

    def rows_at_taps(self):
        taps = self._inputs[-1]
        return self._rows(2, range(-len(taps), 0))

    def _rows(self, argument, indices):
        """The gradients with respect to some of an argument's tensors."""
        count = self.num_objectives

        def linear(*inputs):
            return jnp.stack(self._pushforward(*inputs)[:count])

        transpose = jax.linear_transpose(linear, *self._inputs)
        cotangents = self._later(jnp.eye(count, dtype=self._outputs[0].dtype))
        gradients = jax.vmap(transpose)(cotangents)[argument]
        reached = [self._reached(k) for k in range(count)]
        return [
            [gradients[i][k] if reached[k][i] else None for i in indices]
            for k in range(count)
        ]

    def weighted(self, weights, indices):
        outputs = range(len(weights))
        trainable, _, _ = self._gradients(
            outputs, [weights[k] for k in outputs]
        )
        reached = [self._reached(k) for k in outputs]
        return [
            trainable[i] if any(r[i] for r in reached) else None
            for i in indices
        ]

    def at_taps(self, k):
        _, _, taps = self._gradients([k], [1.0])
        reached = self._reached(k)[-len(taps) :]
        return [
            tap if there else None
            for tap, there in zip(taps, reached, strict=True)
        ]

    def at_probe(self):
        """The gradient of the last output, `None` where there is none."""
        trainable, _, _ = self._inputs
        last = self.num_objectives
        if not self._reached(last)[len(trainable)]:
            return None
        _, probe, _ = self._gradients([last], [1.0])
        return probe

    def _reached(self, k):
        """Which inputs output `k` depends on: JAX's gradients are zeros."""
        used = [index == k for index in range(len(self._outputs))]
        return partial_eval.dce_jaxpr(self._jaxpr, used)[1]

    def _gradients(self, chosen, cotangents):
        # The function of `jax.vjp()` would also send zeros back through what
        # only the other outputs depend on, and XLA computes with zeros.
        def linear(*inputs):
            tangents = self._pushforward(*inputs)
            return [tangents[k] for k in chosen]

        cotangents = [
            jnp.asarray(cotangent, dtype=self._outputs[k].dtype)
            for k, cotangent in zip(chosen, cotangents, strict=True)
        ]
        cotangents = self._later(cotangents)
        return jax.linear_transpose(linear, *self._inputs)(cotangents)

    def _later(self, cotangents):
        # XLA would take what two passes share for one, and keep it.
        if not self._awaited:
            return cotangents
        both = (cotangents, self._awaited)
        return jax.lax.optimization_barrier(both)[0]


def train_step(model, state, data):
    """One step of a combiner of gradients, in the terms of `JAXTrainer`."""
    trainable, non_trainable, optimizer_values, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

    with keras.StatelessScope(
        list(zip(model.optimizer.variables, optimizer_values, strict=True))
    ):
        scale = model.optimizer.scale_loss(jnp.ones(()))

    layer = model._tapped_layer()

    def call(trainable, tap):
        with tapped(layer, tap):
            return model.stateless_call(
                trainable,
                non_trainable,
                x,
                return_losses=True,
                **model._training_argument(),
            )

    def forward(trainable, probe, taps):
        # The gradient at a tensor is that of a zero which is added to it.
        added = iter(taps)
        y_pred, new_non_trainable, layer_losses = call(
            trainable, lambda z: z + next(added)
        )
        model._losses_override = list(layer_losses)
        with _scope(model, trainable, new_non_trainable, metrics) as scope:
            losses = model._step_losses(x, y, y_pred, sample_weight, probe)
        model._losses_override = []
        outputs = (*losses.own, losses.additional)
        scaled = tuple(output * scale for output in outputs)
        updates = _non_trainable_and_metrics(model, scope)
        return scaled, (losses, y_pred, updates)

    taps = _zeros_at_taps(call, trainable) if layer is not None else []
    probe = jnp.zeros(())
    _, pushforward, (losses, y_pred, updates) = jax.linearize(
        forward, trainable, probe, taps, has_aux=True
    )
    outputs = (*losses.own, losses.additional)
    pullback = Pullback(
        pushforward, trainable, probe, taps, outputs, model._rows_at_once
    )
    factor = pullback.at_probe() if model._overrides_loss else None
    with _scope(model, trainable, *updates) as scope:
        gradients = model._combine_gradients(
            pullback,
            losses.whole,
            losses.active,
            scale,
            None if factor is None else factor / scale,
        )
    updates = _non_trainable_and_metrics(model, scope)

    # A variable that no loss reaches has the gradient 0 in plain Keras too.
    gradients = [
        jnp.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, trainable, strict=True)
    ]
    state = (trainable, updates[0], optimizer_values, updates[1])
    return _updated(model, state, gradients, losses.total, y_pred, data)


add_rows = metrics.add_rows
update_means = metrics.update_means


def losses_step(model, keras_step):
    """The training step of a combiner of losses."""
    if model._modulated is None:
        return keras_step
    return functools.partial(_modulated_step, model)


def _modulated_step(model, state, data):
    trainable, non_trainable, optimizer_values, metrics = state
    differentiate = jax.value_and_grad(
        model.compute_loss_and_updates, has_aux=True
    )
    (_, (loss, y_pred, non_trainable, metrics)), gradients = differentiate(
        trainable,
        non_trainable,
        metrics,
        *keras.utils.unpack_x_y_sample_weight(data),
        training=True,
        optimizer_variables=optimizer_values,
    )
    state = (trainable, non_trainable, optimizer_values, metrics)
    return _updated(model, state, gradients, loss, y_pred, data)


def _updated(model, state, gradients, loss, y_pred, data):
    """The logs of a step, and the state after the update."""
    before, non_trainable, optimizer_values, metrics = state
    variables = model.trainable_variables
    modulated = model._modulated
    if modulated is not None:
        with _scope(model, before, non_trainable, metrics) as scope:
            gradients = modulated.gradients(gradients, variables)
        non_trainable, metrics = _non_trainable_and_metrics(model, scope)
    trainable, optimizer_values = model.optimizer.stateless_apply(
        optimizer_values, gradients, before
    )
    if modulated is not None:
        with _scope(model, trainable, non_trainable, metrics):
            trainable = modulated.updates(variables, before, trainable)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    logs, metrics = model._update_metrics_variables(
        metrics, loss, x, y, y_pred, sample_weight
    )
    return logs, (trainable, non_trainable, optimizer_values, metrics)


def _zeros_at_taps(call, trainable):
    def outputs(trainable):
        seen = []
        call(trainable, lambda z: seen.append(z) or z)
        return seen

    shapes = jax.eval_shape(outputs, trainable)
    return [jnp.zeros(z.shape, z.dtype) for z in shapes]


def look_again(model, train_step, state, data):
    """A step, and the losses of the same forward pass after it."""
    _, non_trainable, _, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    logs, state = train_step(state, data)
    trainable, new_non_trainable, optimizer_values, new_metrics = state
    # From where the first pass began: with the same masks in dropout.
    with _scope(model, trainable, non_trainable, metrics):
        again = model._losses_again(x, y, sample_weight)
    with _scope(model, trainable, new_non_trainable, new_metrics) as scope:
        if again is not None:
            model.combiner.after_step(*again)
    non_trainable, metrics = _non_trainable_and_metrics(model, scope)
    return logs, (trainable, non_trainable, optimizer_values, metrics)


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
    state = model.trainable_variables + model.non_trainable_variables

    def gradients(chosen, values, x, given):
        def forward(chosen, probe, taps):
            # Of two values for a variable, the later counts.
            mapping = [
                *zip(state, values, strict=True),
                *zip(variables, chosen, strict=True),
            ]
            with keras.StatelessScope(mapping):
                return losses(given, model(x, training=False))

        probe = jnp.zeros(())
        outputs, pushforward, passed_on = jax.linearize(
            forward, chosen, probe, [], has_aux=True
        )
        pullback = Pullback(
            pushforward, chosen, probe, [], outputs, at_once=False
        )
        indices = range(len(chosen))
        rows = [pullback.row(k, indices) for k in range(len(outputs))]
        return rows, passed_on

    if not model.run_eagerly:
        gradients = jax.jit(gradients)

    def call(x, given):
        # Arguments: a compiled function would keep a copy of anything else.
        chosen = [variable.value for variable in variables]
        values = [variable.value for variable in state]
        return gradients(chosen, values, x, given)

    return call


def _scope(model, trainable, non_trainable, metrics):
    return keras.StatelessScope(
        [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
        ]
    )


def _non_trainable_and_metrics(model, scope):
    return (
        [scope.get_current_value(v) for v in model.non_trainable_variables],
        [scope.get_current_value(v) for v in model.metrics_variables],
    )
