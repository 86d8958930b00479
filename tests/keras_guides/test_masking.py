"""Masking."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.keras_guides.common import BATCHES
from tests.keras_guides.common import QUICK
from tests.keras_guides.common import SAMPLES
from tests.keras_guides.common import SUMS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import fitted
from tests.keras_guides.common import sgd

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


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
