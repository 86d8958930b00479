import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.grouping.backbone import gradient_variables


def backbone_names(model):
    return [v.path for v in gradient_variables(model)]


def test_the_last_layer_with_weights_is_left_out():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(2, name="head")(x)
    expected = ["first/kernel", "first/bias", "norm/gamma", "norm/beta"]
    assert backbone_names(keras.Model(inputs, x)) == expected
    scaled = ops.multiply(layers.Softmax()(x), 2.0)
    assert backbone_names(keras.Model(inputs, scaled)) == expected
    # A head that is not trained is a head too.
    frozen = keras.Model(inputs, x)
    frozen.get_layer("head").trainable = False
    assert backbone_names(frozen) == expected
    frozen.get_layer("first").trainable = False
    assert backbone_names(frozen) == expected[2:]


def test_sequential_and_nested_models():
    backbone = keras.Sequential([layers.Dense(3, name="first")])
    head = keras.Sequential(
        [layers.Dense(4, name="neck"), layers.Dense(2, name="head")]
    )
    model = keras.Sequential([keras.Input((4,)), backbone, head])
    names = ["first/kernel", "first/bias", "neck/kernel", "neck/bias"]
    found = backbone_names(model)
    assert ["/".join(name.split("/")[-2:]) for name in found] == names


def test_every_output_has_a_head():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="first")(inputs)
    outputs = {k: layers.Dense(2, name=k)(x) for k in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    assert backbone_names(model) == ["first/kernel", "first/bias"]
    # The weights that this combiner learns are not the model's.
    model.compile("sgd", loss="mse", combiner="uncertainty")
    model.train_on_batch(
        np.ones((2, 4)), {k: np.ones((2, 2)) for k in ("a", "b")}
    )
    assert len(model.trainable_weights) > 6
    assert backbone_names(model) == ["first/kernel", "first/bias"]


def test_heads_that_cannot_be_told():
    inputs = keras.Input((4,))
    x = layers.Dense(3)(inputs)
    both = layers.Add()([layers.Dense(2)(x), layers.Dense(2)(x)])
    with pytest.raises(ValueError, match="not one layer alone"):
        gradient_variables(keras.Model(inputs, both))
    with pytest.raises(ValueError, match="before its last layer"):
        gradient_variables(keras.Model(inputs, x))
    with pytest.raises(ValueError, match="not one layer alone"):
        gradient_variables(keras.Model(inputs, ops.tanh(inputs)))


def test_bad_models_and_variables():
    with pytest.raises(ValueError, match="must be built"):
        gradient_variables(keras.Sequential([layers.Dense(2)]))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(layers.Dense(3)(inputs)))
    with pytest.raises(TypeError, match="`balanced_variables`"):
        gradient_variables(model, 3)
    with pytest.raises(ValueError, match="no such"):
        gradient_variables(model, ["no such"])
