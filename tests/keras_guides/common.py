"""What Keras' guides do with `keras.Model`, done with `BalancedModel`.

The forms of constructors, losses, data and `compute_loss()` have tests of their
own; here are the rest of the guides, a file for each chapter.
"""

import functools

import keras
import numpy as np
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


def backbone(base):
    inputs = keras.Input((4,))
    x = layers.Dense(6)(inputs)
    x = layers.BatchNormalization()(x)
    return base(inputs, layers.Activation("relu")(x), name="backbone")


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
