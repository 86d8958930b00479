"""Making new layers and models via subclassing."""

import keras
import pytest
from keras import layers
from keras import ops

from tests.keras_guides.common import SUMS
from tests.keras_guides.common import Linear
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import fitted
from tests.keras_guides.common import register

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


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
