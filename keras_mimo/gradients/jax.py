import jax
import jax.numpy as jnp
import keras


def replicas():
    # One program sees the whole batch, however many devices share it.
    return 1


def clear_gradients(variables):
    """Does nothing: JAX keeps no gradients in variables."""


def gramian(matrix):
    # The default precision of a matrix product is lower on GPU and TPU.
    return jnp.matmul(matrix, matrix.T, precision=jax.lax.Precision.HIGHEST)


class Pullback:
    """Gradients of the outputs of one forward pass, one row at a time."""

    def __init__(self, pushforward, trainable, outputs):
        self._pushforward = pushforward
        self._trainable = trainable
        self._outputs = outputs
        self.num_objectives = len(outputs) - 1

    def row(self, k, indices):
        return self._gradients([k], [1.0], indices)

    def weighted(self, weights, indices):
        objectives = range(self.num_objectives)
        return self._gradients(
            objectives, [weights[k] for k in objectives], indices
        )

    def _gradients(self, chosen, cotangents, indices):
        # The function of `jax.vjp()` would also send zeros back through what
        # only the other outputs depend on, and XLA computes with zeros.
        def linear(values):
            tangents = self._pushforward(values)
            return [tangents[k] for k in chosen]

        cotangents = [
            jnp.asarray(cotangent, dtype=self._outputs[k].dtype)
            for k, cotangent in zip(chosen, cotangents, strict=True)
        ]
        pullback = jax.linear_transpose(linear, self._trainable)
        (gradients,) = pullback(cotangents)
        return [gradients[index] for index in indices]


def train_step(model, state, data):
    """One step of a combiner of gradients, in the terms of `JAXTrainer`."""
    trainable, non_trainable, optimizer_values, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    optimizer = model.optimizer

    with keras.StatelessScope(
        list(zip(optimizer.variables, optimizer_values, strict=True))
    ):
        scale = optimizer.scale_loss(jnp.ones(()))

    def forward(trainable):
        y_pred, new_non_trainable, layer_losses = model.stateless_call(
            trainable,
            non_trainable,
            x,
            return_losses=True,
            **model._training_argument(),
        )
        model._losses_override = list(layer_losses)
        with _scope(model, trainable, new_non_trainable, metrics) as scope:
            losses, active, additional = model._objective_losses(
                y, y_pred, sample_weight
            )
        model._losses_override = []
        outputs = (*losses, sum(additional, jnp.zeros(())))
        scaled = tuple(output * scale for output in outputs)
        updates = _non_trainable_and_metrics(model, scope)
        return scaled, (outputs, active, y_pred, updates)

    _, pushforward, (outputs, active, y_pred, updates) = jax.linearize(
        forward, trainable, has_aux=True
    )
    with _scope(model, trainable, *updates) as scope:
        gradients = model._combine_gradients(
            Pullback(pushforward, trainable, outputs),
            gramian,
            outputs[:-1],
            active,
            scale,
        )
        total = model._logged_loss(outputs[:-1], active, [outputs[-1]])
    non_trainable, metrics = _non_trainable_and_metrics(model, scope)

    trainable, optimizer_values = optimizer.stateless_apply(
        optimizer_values, gradients, trainable
    )
    logs, metrics = model._update_metrics_variables(
        metrics, total, x, y, y_pred, sample_weight
    )
    return logs, (trainable, non_trainable, optimizer_values, metrics)


def look_again(model, train_step, state, data):
    """A step, and the losses of the same forward pass after it."""
    _, non_trainable, _, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    logs, state = train_step(state, data)
    trainable, new_non_trainable, optimizer_values, new_metrics = state
    # From where the first pass began: with the same masks in dropout.
    with _scope(model, trainable, non_trainable, metrics):
        losses, active = model._losses_again(x, y, sample_weight)
    with _scope(model, trainable, new_non_trainable, new_metrics) as scope:
        model.combiner.after_step(jnp.stack(losses), active)
    non_trainable, metrics = _non_trainable_and_metrics(model, scope)
    return logs, (trainable, non_trainable, optimizer_values, metrics)


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
