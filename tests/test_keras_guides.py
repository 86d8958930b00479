"""What Keras' guides do with `keras.Model`, done with `BalancedModel`.

The forms of constructors, losses, data and `compute_loss()` have tests of their
own; here are the rest of the guides, chapter by chapter.
"""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import BalancedModel
from tests.quick import quick

BACKEND = keras.backend.backend()
SAMPLES = 16


@keras.saving.register_keras_serializable(package="guides")
class SumOfGradients(keras_mimo.SumCombiner):
    """Plain Keras, through K gradients."""

    needs = "gramian"


# What a model trains by that must do as Keras does, and one that need not.
SUMS = quick([SumOfGradients], [None, "sum", SumOfGradients])
COMBINERS = quick(["mgda"], [None, "sum", "mgda"])


def options(combiner):
    """The arguments of `compile()` for a combiner, none for plain Keras."""
    if combiner is None:
        return {}
    return {"combiner": combiner() if callable(combiner) else combiner}


def register(cls):
    return keras.saving.register_keras_serializable(package="guides")(cls)


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(SAMPLES, 4)).astype("float32")
    y = {n: rng.normal(size=(SAMPLES, 1)).astype("float32") for n in "ab"}
    return x, y


X, Y = data()
# Nothing here depends on how a step is compiled.
QUICK = {"run_eagerly": BACKEND == "tensorflow"}
BATCHES = dict(batch_size=8, shuffle=False, verbose=0)


def graph(units=3):
    inputs = keras.Input((4,), name="x")
    hidden = layers.Dense(units, activation="tanh", name="hidden")(inputs)
    return inputs, {name: layers.Dense(1, name=name)(hidden) for name in "ab"}


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def values(model):
    return [ops.convert_to_numpy(w) for w in model.weights]


def assert_same(actual, expected, rtol=1e-5, atol=1e-6):
    """Of arrays in any structure; of two models, their weights."""
    if isinstance(actual, keras.Model):
        actual, expected = values(actual), values(expected)
    actual = [ops.convert_to_numpy(a) for a in keras.tree.flatten(actual)]
    expected = [ops.convert_to_numpy(e) for e in keras.tree.flatten(expected)]
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


@functools.cache
def plain(build, train):
    """What plain Keras makes of it: a model, and its logs."""
    keras.utils.set_random_seed(1)
    model = build(keras.Model)
    return model, train(model, {})


def as_keras_does(build, train, combiner):
    """Trains two models of one class, and compares logs and weights.

    Args:
        build: Function of a base class that returns a model.
        train: Function of a model and of what `compile()` gets beside Keras'
            arguments, that returns what it logged.
        combiner: One of `SUMS`.

    Returns:
        The `BalancedModel`.
    """
    expected_model, expected = plain(build, train)
    keras.utils.set_random_seed(1)
    model = build(BalancedModel)
    logs = train(model, options(combiner))
    for name, value in expected.items():
        assert_same(logs[name], value)
    assert_same(model, expected_model)
    return model


def compiled(model, given, **arguments):
    model.compile(optimizer=sgd(), loss="mse", **QUICK, **arguments, **given)
    return model


def fitted(model, given, x=X, y=Y):
    compiled(model, given)
    return model.fit(x, y, epochs=2, **BATCHES).history


# Making new layers and models via subclassing.


@register
class Linear(layers.Layer):
    """Its weights wait for an input, and its penalty for a call."""

    def __init__(self, units, penalty=0.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.penalty = units, penalty

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="glorot_uniform"
        )
        self.calls = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="calls"
        )

    def call(self, inputs):
        self.calls.assign_add(1.0)
        outputs = ops.matmul(inputs, self.w)
        if self.penalty:
            self.add_loss(self.penalty * ops.mean(ops.square(outputs)))
        return outputs

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.units, "penalty": self.penalty}


@register
class Block(layers.Layer):
    """Layers in a layer; one of them is made in the first call only."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = Linear(units, penalty=0.1)
        self.second = Linear(units)

    def call(self, inputs):
        return ops.tanh(self.second(ops.tanh(self.first(inputs))))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def of_layers(base):
    class OfLayers(base):
        def __init__(self):
            super().__init__()
            self.block = Block(5)
            self.dropout = layers.Dropout(0.25, seed=1)
            self.a, self.b = layers.Dense(1), Linear(1, penalty=0.2)

        def call(self, inputs, training=False):
            x = self.block(inputs)
            x = self.dropout(x, training=training)
            return {"a": self.a(x), "b": self.b(x)}

    return OfLayers()


@pytest.mark.parametrize("combiner", SUMS)
def test_layers_in_layers_with_losses_and_state(combiner):
    model = as_keras_does(of_layers, fitted, combiner)
    model(X)
    # Of each layer that adds one, of the last call.
    assert len(model.losses) == 2
    assert float(model.block.first.calls) > 4
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Block", "Dropout", "Dense", "Linear"]


def autoencoder(base):
    class Sampling(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(1)

        def call(self, inputs):
            mean, log_variance = inputs
            noise = keras.random.normal(
                ops.shape(mean), seed=self.seed_generator
            )
            return mean + ops.exp(0.5 * log_variance) * noise

    class Encoder(layers.Layer):
        def __init__(self, size, **kwargs):
            super().__init__(**kwargs)
            self.project = layers.Dense(6, activation="relu")
            self.mean, self.log_variance = (
                layers.Dense(size),
                layers.Dense(size),
            )
            self.sampling = Sampling()

        def call(self, inputs):
            x = self.project(inputs)
            mean, log_variance = self.mean(x), self.log_variance(x)
            return mean, log_variance, self.sampling((mean, log_variance))

    class Autoencoder(base):
        def __init__(self, size, original, name="autoencoder", **kwargs):
            super().__init__(name=name, **kwargs)
            self.encoder = Encoder(size)
            self.decoder = keras.Sequential(
                [layers.Dense(6, activation="relu"), layers.Dense(original)]
            )

        def call(self, inputs):
            mean, log_variance, code = self.encoder(inputs)
            divergence = ops.mean(
                log_variance - ops.square(mean) - ops.exp(log_variance) + 1
            )
            self.add_loss(-0.5 * divergence)
            return self.decoder(code)

    return Autoencoder(2, 4)


def reconstruct(model, given):
    return fitted(model, given, y=X)


@pytest.mark.parametrize("combiner", SUMS)
def test_a_variational_autoencoder(combiner):
    """One objective, and a loss that the model adds as it is called."""
    as_keras_does(autoencoder, reconstruct, combiner)


def hypernetwork(base):
    """A layer whose weights another one computes: no variables of its own."""

    class Hypernetwork(base):
        def __init__(self):
            super().__init__()
            self.weights_of = layers.Dense(4 * 2)
            self.bias = layers.Dense(2)

        def call(self, inputs):
            kernel = ops.reshape(self.weights_of(inputs), (-1, 4, 2))
            x = ops.einsum("bi,bij->bj", inputs, kernel) + self.bias(inputs)
            return [x[:, :1], x[:, 1:]]

    return Hypernetwork()


def fit_list(model, given):
    return fitted(model, given, y=list(Y.values()))


@pytest.mark.parametrize("combiner", SUMS)
def test_a_hypernetwork_with_a_list_of_outputs(combiner):
    as_keras_does(hypernetwork, fit_list, combiner)


# Customizing what happens in `fit()`.


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


def descend(model, weights, optimizer, loss_of, *data):
    """One update of some weights, for TensorFlow and PyTorch."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of(*data)
        optimizer.apply(tape.gradient(loss, weights), weights)
    else:
        import torch

        model.zero_grad()
        loss = loss_of(*data)
        loss.backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in weights], weights)
    return loss


def compete(model, given):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(sgd(), keras.optimizers.Adam(0.01), loss)
    return model.fit(X, epochs=2, **BATCHES).history


@pytest.mark.skipif(BACKEND == "jax", reason="Keras' guide has none for JAX")
def test_adversaries():
    as_keras_does(adversaries, compete, None)


# Writing a training loop from scratch.


def loop(model, given):
    """A loop that knows the layers' part of a model only."""
    optimizer, loss_fn = sgd(), keras.losses.MeanSquaredError()
    metric = keras.metrics.MeanAbsoluteError()
    weights = model.trainable_weights
    optimizer.build(weights)

    def loss_of(x, y, y_pred):
        return sum(loss_fn(y[n], y_pred[n]) for n in "ab") + sum(model.losses)

    losses = []
    if BACKEND == "jax":
        import jax

        def loss_and_updates(trainable, others, x, y):
            y_pred, others, added = model.stateless_call(
                trainable, others, x, training=True, return_losses=True
            )
            loss = sum(loss_fn(y[n], y_pred[n]) for n in "ab") + sum(added)
            return loss, (others, y_pred)

        @jax.jit
        def step(state, x, y):
            trainable, others, moments, errors = state
            (loss, (others, y_pred)), gradients = jax.value_and_grad(
                loss_and_updates, has_aux=True
            )(trainable, others, x, y)
            trainable, moments = optimizer.stateless_apply(
                moments, gradients, trainable
            )
            errors = metric.stateless_update_state(errors, y["a"], y_pred["a"])
            return loss, (trainable, others, moments, errors)

        kept = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
            metric.variables,
        )
        state = [[v.value for v in variables] for variables in kept]
        for _ in range(3):
            loss, state = step(state, X, Y)
            losses.append(loss)
        for variables, tensors in zip(kept, state, strict=True):
            for variable, tensor in zip(variables, tensors, strict=True):
                variable.assign(tensor)
    else:
        y_preds = []

        def loss_now(x, y):
            y_preds.append(model(x, training=True))
            return loss_of(x, y, y_preds[-1])

        y = {name: ops.convert_to_tensor(Y[name]) for name in "ab"}
        x = ops.convert_to_tensor(X)
        for _ in range(3):
            losses.append(descend(model, weights, optimizer, loss_now, x, y))
            metric.update_state(y["a"], y_preds[-1]["a"])
    return {"loss": losses, "error": metric.result()}


def regularized(base):
    inputs = keras.Input((4,))
    x = layers.Dense(
        3,
        activation="tanh",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.1),
    )(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3, seed=1)(x)
    return base(inputs, {name: layers.Dense(1, name=name)(x) for name in "ab"})


def test_a_loop_from_scratch():
    as_keras_does(regularized, loop, None)


@pytest.mark.parametrize("combiner", ["mgda", "famo"])
def test_a_loop_after_training_with_a_combiner(combiner):
    """What the combiner keeps is no part of what the loop trains."""
    expected_model, expected = plain(regularized, loop)
    keras.utils.set_random_seed(1)
    model = regularized(BalancedModel)
    # Seeds are variables too, and no weights.
    start = [(v, ops.convert_to_numpy(v)) for v in model.variables]
    compiled(model, options(combiner)).train_on_batch(X, Y)
    for variable, value in start:
        variable.assign(value)
    logs = loop(model, {})
    assert_same(logs, expected)
    assert_same(model, expected_model)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_calls_without_state(combiner):
    model = regularized(BalancedModel)
    compiled(model, options(combiner)).train_on_batch(X, Y)
    before = model.get_weights()
    state = [
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    ]
    zeros = [ops.zeros_like(v) for v in state[0]]
    outputs, others = model.stateless_call(zeros, state[1], X, training=True)
    assert len(others) == len(model.non_trainable_variables)
    assert_same(outputs, {name: 0 * Y[name] for name in "ab"})
    metrics = [v.value for v in model.metrics_variables]
    loss, (_, _, metrics) = model.stateless_compute_loss(
        *state, metrics, x=X, y=Y, y_pred=outputs, training=False
    )
    expected = sum(np.mean(np.square(Y[name])) for name in "ab")
    expected += float(ops.convert_to_numpy(sum(model.losses)))
    assert_same(loss, expected)
    assert len(metrics) == len(model.metrics_variables)
    assert_same(model.get_weights(), before)


# Saving and serialization.


class OwnSaving:
    """Every method that the guide to saving lets a model have of its own."""

    def compile(self, factor=1.0, **arguments):
        super().compile(**arguments)
        self.factor = factor

    def compute_loss(self, *args, **kwargs):
        return self.factor * super().compute_loss(*args, **kwargs)

    def get_compile_config(self):
        return {**super().get_compile_config(), "factor": self.factor}

    def compile_from_config(self, config):
        assert config["optimizer"]["class_name"] == "SGD"
        self.compile(**keras.saving.deserialize_keras_object(config))

    def save_own_variables(self, store):
        store["scale"] = ops.convert_to_numpy(self.scale)

    def load_own_variables(self, store):
        self.scale.assign(store["scale"])

    def save_assets(self, folder):
        with open(f"{folder}/words.txt", "w") as file:
            file.write(self.words)

    def load_assets(self, folder):
        with open(f"{folder}/words.txt") as file:
            self.words = file.read()

    def get_config(self):
        return {"units": self.units}


def subclassed_saving(base):
    @register
    class SubclassedSaving(OwnSaving, base):
        def __init__(self, units):
            super().__init__()
            self.units = units
            self.hidden = layers.Dense(units)
            self.heads = {name: layers.Dense(1) for name in "ab"}

        def build(self, input_shape, initializer):
            self.initializer = initializer
            self.scale = self.add_weight(
                shape=(), initializer=initializer, trainable=False
            )
            self.hidden.build(input_shape)
            for head in self.heads.values():
                head.build((None, self.units))

        def call(self, x):
            x = self.scale * self.hidden(x)
            return {name: head(x) for name, head in self.heads.items()}

        def get_build_config(self):
            return {"shape": [None, 4], "initializer": self.initializer}

        def build_from_config(self, config):
            self.build(config["shape"], config["initializer"])

    model = SubclassedSaving(3)
    model.build((None, 4), "ones")
    return model


def functional_saving(base):
    @register
    class FunctionalSaving(OwnSaving, base):
        def __init__(self, units):
            super().__init__(*graph(units))
            self.units = units
            self.scale = self.add_weight(
                shape=(), initializer="ones", trainable=False
            )

    return FunctionalSaving(3)


@pytest.mark.parametrize("build", [subclassed_saving, functional_saving])
@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_own_methods_of_saving(build, combiner, tmp_path):
    for base in (keras.Model, BalancedModel):
        model = build(base)
        given = options(combiner) if base is BalancedModel else {}
        compiled(model, given, factor=4.0)
        model.scale.assign(2.0)
        model.words = "some words"
        expected = model.evaluate(X, Y, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model)
        assert float(loaded.scale) == 2.0
        assert loaded.factor == 4.0
        assert loaded.words == "some words"
        assert_same(loaded.evaluate(X, Y, verbose=0), expected)
        assert_same(loaded, model)
        logs = [m.train_on_batch(X, Y) for m in (loaded, model)]
        assert_same(*logs)
        assert_same(loaded, model)
    assert type(loaded.combiner) is type(model.combiner)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_a_class_that_is_not_registered(combiner, tmp_path):
    class Unregistered(BalancedModel):
        def __init__(self, layer, **kwargs):
            super().__init__(**kwargs)
            self.layer = layer
            self.heads = {name: layers.Dense(1) for name in "ab"}

        def call(self, x):
            x = self.layer(x)
            return {name: head(x) for name, head in self.heads.items()}

        def get_config(self):
            layer = keras.saving.serialize_keras_object(self.layer)
            return {**super().get_config(), "layer": layer}

        @classmethod
        def from_config(cls, config):
            layer = keras.saving.deserialize_keras_object(config.pop("layer"))
            return cls(layer, **config)

    model = Unregistered(Linear(3, name="first"), name="mine")
    model(X)
    compiled(model, options(combiner)).train_on_batch(X, Y)
    expected = model.evaluate(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    custom = {"Unregistered": Unregistered}
    for folder in (False, True):
        path = tmp_path / ("folder" if folder else "model.keras")
        if folder:
            model.save(path, zipped=False)
        with keras.saving.custom_object_scope(custom):
            loaded = keras.saving.load_model(path)
        assert type(loaded) is Unregistered and loaded.name == "mine"
        assert type(loaded.combiner) is type(model.combiner)
        assert_same(loaded.evaluate(X, Y, verbose=0), expected)
    with pytest.raises(TypeError, match="Unregistered"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, custom, compile=False)
    assert not loaded.compiled and loaded.combiner is None
    assert_same(loaded, model)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_architectures_without_weights(combiner):
    model = compiled(BalancedModel(*graph()), options(combiner))
    again = [
        type(model).from_config(model.get_config()),
        keras.models.model_from_json(model.to_json()),
        keras.models.clone_model(model),
    ]
    for other in again:
        assert type(other) is type(model)
        other.set_weights(model.get_weights())
        assert_same(other(X), model(X))
    assert [other.compiled for other in again] == [False, True, True]
    for other in again[1:]:
        assert type(other.combiner) is type(model.combiner)
        other.set_weights(model.get_weights())
        assert_same(*[m.train_on_batch(X, Y) for m in (other, model)])


def test_weights_go_from_model_to_model(tmp_path):
    """Between classes, architectures without weights in between, and parts."""
    source = compiled(BalancedModel(*graph()), {"combiner": "mgda"})
    source.train_on_batch(X, Y)
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="tanh", name="hidden")(inputs)
    x = layers.Dropout(0.5)(x)
    heads = {name: layers.Dense(1, name=name)(x) for name in "ab"}
    target = BalancedModel(inputs, heads)
    target.set_weights(source.get_weights())
    assert_same(target(X), source(X))
    for base in (keras.Model, BalancedModel):
        target = base(*graph())
        source.save_weights(tmp_path / "all.weights.h5")
        target.load_weights(tmp_path / "all.weights.h5")
        assert_same(target, source)
        source.save_weights(tmp_path / "all.weights.json", max_shard_size=1)
        target = base(*graph())
        target.load_weights(tmp_path / "all.weights.json")
        assert_same(target, source)
        backbone = base(target.inputs, target.get_layer("hidden").output)
        assert_same(backbone.get_weights(), source.get_weights()[:2])
        inputs = keras.Input((4,))
        wider = base(
            inputs,
            layers.Dense(7, name="other")(
                layers.Dense(3, activation="tanh", name="hidden")(inputs)
            ),
        )
        with pytest.warns(UserWarning, match="could not be loaded"):
            wider.load_weights(tmp_path / "all.weights.h5", skip_mismatch=True)
        assert_same(wider.get_weights()[:2], source.get_weights()[:2])


# Transfer learning and fine tuning.


def backbone(base):
    inputs = keras.Input((4,))
    x = layers.Dense(6)(inputs)
    x = layers.BatchNormalization()(x)
    return base(inputs, layers.Activation("relu")(x), name="backbone")


def transferred(base):
    """A frozen model in a new one."""
    body = backbone(base)
    body.trainable = False
    inputs = keras.Input((4,))
    x = layers.Normalization(mean=0.1, variance=2.0)(inputs)
    x = layers.Dropout(0.2, seed=1)(body(x, training=False))
    return base(inputs, {name: layers.Dense(1, name=name)(x) for name in "ab"})


def fine_tune(model, given):
    body = model.get_layer("backbone")
    before = body.get_weights()
    first = fitted(model, given)
    assert len(model.trainable_weights) == 4
    assert_same(body.get_weights(), before, rtol=0, atol=0)
    body.trainable = True
    assert len(model.trainable_weights) == 8
    model.compile(keras.optimizers.SGD(0.01), "mse", **QUICK, **given)
    second = model.fit(X, Y, epochs=2, **BATCHES).history
    assert np.abs(body.get_weights()[0] - before[0]).max() > 1e-4
    return {**first, **{f"second_{k}": v for k, v in second.items()}}


@pytest.mark.parametrize("combiner", SUMS)
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_freeze_and_unfreeze(combiner, tmp_path):
    model = as_keras_does(transferred, fine_tune, combiner)
    model.layers[-1].trainable = False
    assert len(model.trainable_weights) == 6
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_weights) == 6
    assert_same(loaded(X), model(X))


def fit_normalized(model, given):
    """The same model, whose statistics are trained with it."""
    history = fitted(model, given)
    moved = model.get_weights()[-6:-4]
    assert np.abs(moved[0]).max() > 1e-3
    model.layers[2].trainable = False
    again = fitted(model, given)
    # A frozen one runs in inference mode.
    assert_same(model.get_weights()[-6:-4], moved, rtol=0, atol=0)
    return {**history, **{f"second_{k}": v for k, v in again.items()}}


def normalized(base):
    inputs = keras.Input((4,))
    x = layers.BatchNormalization()(layers.Dense(6)(inputs))
    return base(inputs, {name: layers.Dense(1, name=name)(x) for name in "ab"})


@pytest.mark.parametrize("combiner", SUMS)
def test_batch_normalization(combiner):
    as_keras_does(normalized, fit_normalized, combiner)


@pytest.mark.parametrize(
    "trained_by", quick(["uncertainty"], ["uncertainty", "famo", "mgda"])
)
@pytest.mark.parametrize("combiner", COMBINERS)
def test_a_trained_model_in_a_new_one(trained_by, combiner, tmp_path):
    """What its combiner learnt is not trained again."""
    inner = compiled(BalancedModel(*graph()), {"combiner": trained_by})
    inner.train_on_batch(X, Y)
    inputs = keras.Input((4,))
    model = BalancedModel(inputs, inner(layers.Dense(4)(inputs)))
    assert len(model.trainable_weights) == 8
    assert len(model.trainable_variables) == 8
    compiled(model, options(combiner))
    model.fit(X, Y, **BATCHES)
    expected = model.evaluate(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded.evaluate(X, Y, verbose=0), expected)
    assert_same(loaded, model)


# The functional API.


def several_inputs(base):
    """A layer and a model that are called twice."""
    inner_inputs = keras.Input((3,))
    inner = base(inner_inputs, layers.Dense(3, activation="tanh")(inner_inputs))
    title, body = (
        keras.Input((6,), name="title"),
        keras.Input((4,), name="body"),
    )
    embed = layers.Embedding(10, 3)
    text = layers.GlobalAveragePooling1D()(embed(title))
    first = layers.GlobalMaxPooling1D()(embed(title))
    numbers = inner(layers.Dense(3)(body))
    joint = layers.add([inner(text), numbers, first])
    joint = layers.concatenate([joint, ops.square(numbers)])
    outputs = {
        "a": layers.Dense(1, name="a")(joint),
        "b": layers.Dense(3, activation="softmax", name="b")(joint),
    }
    return base({"title": title, "body": body}, outputs, name="several")


INPUTS = {
    "title": np.random.default_rng(1).integers(0, 10, (SAMPLES, 6)),
    "body": X,
}
LABELS = {"a": Y["a"], "b": np.eye(3, dtype="float32")[np.arange(SAMPLES) % 3]}


def train_several(model, given):
    model.compile(
        sgd(),
        {"a": "mse", "b": keras.losses.CategoricalCrossentropy()},
        loss_weights={"a": 0.2, "b": 1.0},
        metrics={"b": ["accuracy"]},
        **QUICK,
        **given,
    )
    return model.fit(INPUTS, LABELS, epochs=2, **BATCHES).history


@pytest.mark.parametrize("combiner", SUMS)
def test_several_inputs_and_shared_layers(combiner, tmp_path):
    model = as_keras_does(several_inputs, train_several, combiner)
    expected_model, _ = plain(several_inputs, train_several)
    assert len(model.layers) == len(expected_model.layers)
    assert summary(model) == summary(expected_model)
    assert model.count_params() == expected_model.count_params()
    assert list(model.input) == list(expected_model.input)
    assert model.output_names == expected_model.output_names
    features = BalancedModel(model.input, [x.output for x in model.layers[-2:]])
    assert_same(features(INPUTS), list(model(INPUTS).values()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded(INPUTS), model(INPUTS))
    assert_same(
        loaded.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0)
    )


def summary(model):
    """Its lines of parameters, without names and the optimizer's."""
    lines = []
    model.summary(print_fn=lambda text, **kwargs: lines.append(text))
    return [
        line
        for line in "\n".join(lines).splitlines()
        if "params" in line and "Optimizer" not in line
    ]


def test_a_plot_of_a_model(tmp_path):
    pytest.importorskip("pydot")
    model = several_inputs(BalancedModel)
    dot = keras.utils.model_to_dot(model, expand_nested=True)
    assert "title" in dot.to_string()


def unnamed_graph():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, activation="tanh")(inputs)
    return inputs, {name: layers.Dense(1)(hidden) for name in "ab"}


def ensemble(base):
    members = [base(*unnamed_graph()) for _ in range(3)]
    inputs = keras.Input((4,))
    outputs = [member(inputs) for member in members]
    return base(
        inputs,
        {n: layers.average([output[n] for output in outputs]) for n in "ab"},
    )


@pytest.mark.parametrize("combiner", SUMS)
def test_an_ensemble(combiner):
    model = as_keras_does(ensemble, fitted, combiner)
    assert len(model.layers) == 6


def with_sequential(base):
    class WithSequential(base):
        def __init__(self):
            super().__init__()
            self.body = keras.Sequential(
                [
                    layers.Dense(5, activation="tanh"),
                    layers.Dropout(0.2, seed=1),
                ]
            )
            self.heads = {
                name: keras.Sequential([layers.Dense(2), layers.Dense(1)])
                for name in "ab"
            }

        def call(self, x, training=False):
            x = self.body(x, training=training)
            return {name: head(x) for name, head in self.heads.items()}

    return WithSequential()


@pytest.mark.parametrize("combiner", SUMS)
def test_sequential_models_inside(combiner):
    as_keras_does(with_sequential, fitted, combiner)


# Masking.


class Masked(layers.Layer):
    """Makes a mask, as `Embedding` does."""

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0.0), axis=-1)

    def call(self, inputs, mask=None):
        return inputs


class Total(layers.Layer):
    """Reads a mask."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        return inputs * ops.expand_dims(ops.cast(mask, "float32"), -1)


def masked(base):
    """Outputs that have a mask, of which the losses make use."""
    words = keras.Input((6,), name="words")
    x = layers.Embedding(10, 4, mask_zero=True)(words)
    x = layers.SimpleRNN(4, return_sequences=True)(x)
    outputs = {
        "a": layers.Dense(1, name="a")(Total()(x)),
        "b": layers.SimpleRNN(1, name="b")(Masked()(x)),
    }
    return base(words, outputs)


WORDS = np.random.default_rng(2).integers(1, 10, (SAMPLES, 6))
WORDS[:, 4:] = 0
WORDS[::2, 2:] = 0


def train_masked(model, given):
    y = {"a": np.repeat(X[:, :1, None], 6, axis=1), "b": Y["b"]}
    logs = fitted(model, given, x=WORDS, y=y)
    y["a"][:, 4:] = 100.0
    # Labels in the place of what is masked do not count.
    assert logs["loss"][0] < 50
    assert model.evaluate(WORDS, y, verbose=0)[0] < 50
    return logs


@pytest.mark.parametrize("combiner", SUMS)
def test_masks(combiner):
    as_keras_does(masked, train_masked, combiner)


def encoder_decoder(base):
    """Two sequences in, one out, and the class of the first."""

    class EncoderDecoder(base):
        def __init__(self):
            super().__init__()
            self.embed = layers.Embedding(10, 4, mask_zero=True)
            self.encoder = layers.GRU(3, return_state=True)
            self.decoder = layers.GRU(3, return_sequences=True)
            self.words, self.kind = layers.Dense(10), layers.Dense(1)

        def call(self, inputs, training=False):
            source, target = inputs
            _, state = self.encoder(self.embed(source), training=training)
            decoded = self.decoder(
                self.embed(target), initial_state=state, training=training
            )
            return {"words": self.words(decoded), "kind": self.kind(state)}

    return EncoderDecoder()


def translate(model, given):
    model.compile(
        sgd(),
        {
            "words": keras.losses.SparseCategoricalCrossentropy(True),
            "kind": "mse",
        },
        **QUICK,
        **given,
    )
    y = {"words": np.roll(WORDS, -1, axis=1), "kind": Y["a"]}
    return model.fit((WORDS, WORDS[::-1]), y, epochs=2, **BATCHES).history


@pytest.mark.parametrize("combiner", SUMS)
def test_an_encoder_and_a_decoder(combiner):
    as_keras_does(encoder_decoder, translate, combiner)


# Writing callbacks.


class Own(keras.callbacks.Callback):
    """Changes the learning rate, and stops with the best weights so far."""

    def __init__(self):
        super().__init__()
        self.seen, self.best, self.kept = [], np.inf, None

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(sorted(logs))

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = float(rate) * 0.5

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best, self.kept = logs["val_loss"], self.model.get_weights()
        if epoch == 2:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.model.set_weights(self.kept)


def train_with_callback(model, given):
    compiled(model, given)
    own = Own()
    history = model.fit(
        X, Y, epochs=9, validation_data=(X, Y), callbacks=[own], **BATCHES
    ).history
    assert len(history["loss"]) == 3 and len(own.seen) == 6
    assert {"loss", "a_loss", "b_loss"} <= set(own.seen[0])
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(own.best)
    rate = float(model.optimizer.learning_rate)
    return {**history, "learning_rate": rate, "best": own.best}


@pytest.mark.parametrize("combiner", SUMS)
def test_a_callback(combiner):
    as_keras_does(two_outputs, train_with_callback, combiner)


def two_outputs(base):
    return base(*graph())
