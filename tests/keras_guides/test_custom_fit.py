"""Customizing what happens in `fit()`."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from tests.keras_guides.common import BACKEND
from tests.keras_guides.common import BATCHES
from tests.keras_guides.common import QUICK
from tests.keras_guides.common import SAMPLES
from tests.keras_guides.common import SUMS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import compiled
from tests.keras_guides.common import descend
from tests.keras_guides.common import graph
from tests.keras_guides.common import sgd


def gradient_step(model, data, loss_of):
    """A training step in each backend's idiom, for TensorFlow and PyTorch.

    Args:
        model: The model.
        data: What `train_step()` gets.
        loss_of: Function of `(x, y, y_pred, sample_weight)`.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    weights = model.trainable_weights
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = loss_of(x, y, y_pred, sample_weight)
        gradients = tape.gradient(loss, weights)
        model.optimizer.apply(gradients, weights)
    else:
        import torch

        model.zero_grad()
        y_pred = model(x, training=True)
        loss = loss_of(x, y, y_pred, sample_weight)
        loss.backward()
        with torch.no_grad():
            model.optimizer.apply([v.value.grad for v in weights], weights)
    return loss, y_pred


def jax_step(model, state, data):
    """The same, of values, for JAX; the state without that of metrics."""
    import jax

    trainable, non_trainable, optimizer, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

    def loss_and_updates(trainable, non_trainable, metrics):
        y_pred, non_trainable = model.stateless_call(
            trainable, non_trainable, x, training=True
        )
        loss, (_, non_trainable, metrics) = model.stateless_compute_loss(
            trainable,
            non_trainable,
            metrics,
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=sample_weight,
            training=True,
        )
        return loss, (y_pred, non_trainable, metrics)

    (loss, updates), gradients = jax.value_and_grad(
        loss_and_updates, has_aux=True
    )(trainable, non_trainable, metrics)
    y_pred, non_trainable, metrics = updates
    trainable, optimizer = model.optimizer.stateless_apply(
        optimizer, gradients, trainable
    )
    return loss, y_pred, (trainable, non_trainable, optimizer, metrics)


@pytest.mark.parametrize("combiner", ["sum", "mgda"])
def test_a_step_that_leaves_the_combiner_out_says_so(combiner):
    class Step(keras_mimo.BalancedModel):
        def train_step(self, *args):
            if BACKEND == "jax":
                loss, _, state = jax_step(self, *args)
                return {"loss": loss}, state
            loss, _ = gradient_step(self, *args, self.compute_loss)
            return {"loss": loss}

    inputs = keras.Input((3,))
    outputs = {name: layers.Dense(1, name=name)(inputs) for name in "ab"}
    model = Step(inputs, outputs)
    model.compile("sgd", "mse", combiner=combiner)
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, {"a": y, "b": y}, verbose=0)
        model.evaluate(x, {"a": y, "b": y}, verbose=0)
    said = [w for w in caught if "no use of the combiner" in str(w.message)]
    assert bool(said) == (combiner == "mgda")


def own_step(base):
    """Sample weights and metrics of `compile()`, as the guide goes about it."""

    class OwnStep(base):
        def train_step(self, *args):
            if BACKEND == "jax":
                return self.stateless_step(*args)
            loss, y_pred = gradient_step(self, *args, self.compute_loss)
            _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(*args)
            return self.logs(loss, y, y_pred, sample_weight)

        def logs(self, loss, y, y_pred, sample_weight=None):
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred, sample_weight=sample_weight)
            return {metric.name: metric.result() for metric in self.metrics}

        def stateless_step(self, state, data):
            loss, y_pred, state = jax_step(self, state, data)
            _, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            logs, values = self.stateless_logs(
                state[3], loss, y, y_pred, sample_weight
            )
            return logs, (*state[:3], values)

        def stateless_logs(self, values, loss, y, y_pred, sample_weight=None):
            logs, updated = {}, []
            for metric in self.metrics:
                start = len(updated)
                own = values[start : start + len(metric.variables)]
                given = (y, y_pred, sample_weight)
                if metric.name == "loss":
                    given = (loss,)
                own = metric.stateless_update_state(own, *given)
                logs[metric.name] = metric.stateless_result(own)
                updated += own
            return logs, updated

        def test_step(self, *args):
            if BACKEND != "jax":
                x, y = args[0]
                y_pred = self(x, training=False)
                loss = self.compute_loss(y=y, y_pred=y_pred, training=False)
                return self.logs(loss, y, y_pred)
            (trainable, non_trainable, metrics), (x, y) = args
            y_pred, non_trainable = self.stateless_call(
                trainable, non_trainable, x, training=False
            )
            loss, (trainable, non_trainable, metrics) = (
                self.stateless_compute_loss(
                    trainable,
                    non_trainable,
                    metrics,
                    x=x,
                    y=y,
                    y_pred=y_pred,
                    training=False,
                )
            )
            logs, metrics = self.stateless_logs(metrics, loss, y, y_pred)
            return logs, (trainable, non_trainable, metrics)

    inputs = keras.Input((4,))
    return OwnStep(inputs, layers.Dense(1)(inputs))


def train_weighted(model, given):
    weight = np.linspace(0.5, 2.0, SAMPLES).astype("float32")
    compiled(model, given, metrics=["mae"])
    history = model.fit(
        X, Y["a"], sample_weight=weight, epochs=2, **BATCHES
    ).history
    logs = model.evaluate(X, Y["a"], verbose=0, return_dict=True)
    return {**history, **{f"val_{k}": v for k, v in logs.items()}}


@pytest.mark.parametrize("combiner", [None, "sum"])
def test_own_steps(combiner):
    as_keras_does(own_step, train_weighted, combiner)


def own_metrics(base):
    """Metrics of the model's own, and no loss in `compile()`."""

    class OwnMetrics(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.error = keras.metrics.MeanAbsoluteError(name="error")
            self.loss_fn = keras.losses.MeanSquaredError()

        @property
        def metrics(self):
            return [self._loss_tracker, self.error]

        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            return self.loss_fn(y["a"], y_pred["a"])

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            self.error.update_state(y["b"], y_pred["b"])
            return self.get_metrics_result()

    return OwnMetrics(*graph())


def train_without_loss(model, given):
    model.compile(sgd(), **QUICK, **given)
    history = model.fit(X, Y, epochs=2, **BATCHES).history
    assert set(history) == {"loss", "error"}
    return history


def test_own_metrics_and_losses():
    as_keras_does(own_metrics, train_without_loss, None)


def more_metrics(base):
    """One more metric, beside those that the model has."""

    class MoreMetrics(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.size = keras.metrics.Mean(name="size")

        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            self.size.update_state(ops.abs(y_pred["a"]))
            logs = super().compute_metrics(x, y, y_pred, sample_weight)
            return {**logs, "twice": 2 * self.size.result()}

    return MoreMetrics(*graph())


def train_with_metrics(model, given):
    compiled(model, given, metrics={"a": "mae"}, weighted_metrics={"b": "mse"})
    history = model.fit(
        X, Y, epochs=2, validation_data=(X, Y), **BATCHES
    ).history
    assert {"size", "twice", "val_size", "a_mae", "b_mse"} <= set(history)
    return history


@pytest.mark.parametrize("combiner", SUMS)
def test_a_metric_beside_those_of_the_model(combiner):
    as_keras_does(more_metrics, train_with_metrics, combiner)


def adversaries(base):
    """Two optimizers, and a `compile()` without Keras' arguments."""

    class Adversaries(base):
        def __init__(self, critic, forger, size):
            super().__init__()
            self.critic, self.forger, self.size = critic, forger, size
            self.trackers = [
                keras.metrics.Mean(name=name) for name in ("critic", "forger")
            ]
            self.seed_generator = keras.random.SeedGenerator(3)
            self.built = True

        def compile(self, critic_optimizer, forger_optimizer, loss_fn):
            super().compile(**QUICK)
            self.critic_optimizer = critic_optimizer
            self.forger_optimizer = forger_optimizer
            self.loss_fn = loss_fn
            critic_optimizer.build(self.critic.trainable_variables)
            forger_optimizer.build(self.forger.trainable_variables)

        @property
        def metrics(self):
            return self.trackers

        def forged(self, real):
            noise = keras.random.normal(
                (real.shape[0], self.size), seed=self.seed_generator
            )
            return self.forger(noise)

        def critic_loss(self, real):
            forged = ops.stop_gradient(self.forged(real))
            scores = self.critic(ops.concatenate([forged, real]))
            half = ops.ones((real.shape[0], 1))
            return self.loss_fn(ops.concatenate([half, 0 * half]), scores)

        def forger_loss(self, real):
            scores = self.critic(self.forged(real))
            return self.loss_fn(ops.zeros_like(scores), scores)

        def train_step(self, data):
            (real,) = data if isinstance(data, tuple) else (data,)
            parts = (
                (self.critic, self.critic_optimizer, self.critic_loss),
                (self.forger, self.forger_optimizer, self.forger_loss),
            )
            for (part, optimizer, loss_of), tracker in zip(
                parts, self.trackers, strict=True
            ):
                loss = descend(
                    self, part.trainable_weights, optimizer, loss_of, real
                )
                tracker.update_state(loss)
            return {metric.name: metric.result() for metric in self.trackers}

    critic = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, activation="relu"), layers.Dense(1)]
    )
    forger = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    return Adversaries(critic=critic, forger=forger, size=2)


def compete(model, given):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(sgd(), keras.optimizers.Adam(0.01), loss)
    return model.fit(X, epochs=2, **BATCHES).history


@pytest.mark.skipif(BACKEND == "jax", reason="Keras' guide has none for JAX")
def test_adversaries():
    as_keras_does(adversaries, compete, None)
