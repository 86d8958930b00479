"""Transfer learning and fine tuning."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_mimo import BalancedModel
from tests.keras_guides.common import BATCHES
from tests.keras_guides.common import COMBINERS
from tests.keras_guides.common import QUICK
from tests.keras_guides.common import SUMS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import assert_same
from tests.keras_guides.common import backbone
from tests.keras_guides.common import compiled
from tests.keras_guides.common import fitted
from tests.keras_guides.common import graph
from tests.keras_guides.common import options
from tests.quick import quick

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


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
