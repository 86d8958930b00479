"""What Keras' guides do with `keras.Model`, done with `BalancedModel`.

The forms of constructors, losses, data and `compute_loss()` have tests of their
own; here are the rest of the guides, chapter by chapter.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import BalancedModel
from tests.backends import gradient

BACKEND = keras.backend.backend()
SAMPLES = 16


@keras.saving.register_keras_serializable(package="guides")
class SumOfGradients(keras_mimo.SumCombiner):
    """Plain Keras, through K gradients."""

    needs = "gramian"


# What a model trains by that must do as Keras does, and one that need not.
SUMS = [None, "sum", SumOfGradients]
COMBINERS = [None, "sum", "mgda"]


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
