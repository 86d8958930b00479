import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.grouping import class_gramian

NUM_CLASSES = 3
sparse_loss = keras.losses.SparseCategoricalCrossentropy


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype("float32")
    return x, rng.integers(NUM_CLASSES, size=12)


def one_hot():
    x, y = data()
    return x, np.eye(NUM_CLASSES, dtype="float32")[y]


def network(cls=keras.Model, softmax=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="tanh")(inputs)
    x = layers.Dense(NUM_CLASSES)(x)
    return cls(inputs, layers.Softmax()(x) if softmax else x)


def gramian(model, dataset, **options):
    return class_gramian(model, dataset, NUM_CLASSES, verbose=0, **options)[0]


@pytest.mark.parametrize("labels", [data, one_hot])
@pytest.mark.parametrize(
    "loss",
    [
        sparse_loss(from_logits=True),
        sparse_loss(from_logits=True, reduction="sum"),
        sparse_loss(from_logits=True, reduction=None),
    ],
)
def test_the_default_is_the_compiled_loss_without_its_reduction(labels, loss):
    expected = gramian(network(), data())
    model = network()
    model.compile("sgd", loss)
    before = loss.reduction
    np.testing.assert_array_equal(gramian(model, labels()), expected)
    np.testing.assert_array_equal(
        gramian(network(), labels(), loss=loss), expected
    )
    assert loss.reduction == before


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("sparse_categorical_crossentropy", data),
        ("sparse_categorical_crossentropy", one_hot),
        (keras.losses.sparse_categorical_crossentropy, one_hot),
        ("categorical_crossentropy", one_hot),
        ("crossentropy", data),
        ("crossentropy", one_hot),
        (["categorical_crossentropy"], one_hot),
    ],
)
def test_one_hot_equals_sparse(loss, labels):
    expected = gramian(network(), data())
    model = network(softmax=True)
    model.compile("sgd", loss)
    actual = gramian(model, labels())
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-7)


def test_balanced_models():
    expected = gramian(network(), data())
    model = network(keras_mimo.BalancedModel)
    model.compile("sgd", sparse_loss(from_logits=True), combiner="mgda")
    np.testing.assert_array_equal(gramian(model, data()), expected)


def test_losses_of_every_position_are_averaged():
    model = network()

    def squares(y, y_pred):
        return (y_pred - 1.0) ** 2

    def mean_of_squares(y, y_pred):
        return keras.ops.mean((y_pred - 1.0) ** 2, axis=1)

    np.testing.assert_allclose(
        gramian(model, one_hot(), loss=squares),
        gramian(model, one_hot(), loss=mean_of_squares),
        rtol=1e-5,
    )


def test_binary_labels():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(5, activation="tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(x))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    x, y = data()
    binary = (y > 0).astype("float32")
    flat, _ = class_gramian(model, (x, binary), 2, loss=loss, verbose=0)
    column, _ = class_gramian(
        model, (x, binary[:, None]), 2, loss=loss, verbose=0
    )
    np.testing.assert_array_equal(flat, column)
    # One logit pushes the classes in opposite directions.
    assert flat[0, 1] < 0 < flat[0, 0]


def test_bad_losses():
    def scalar(y, y_pred):
        return keras.ops.mean(y_pred)

    with pytest.raises(ValueError, match="returned a scalar"):
        gramian(network(), data(), loss=scalar)
    model = network()
    two = keras.Model(model.input, [model.output, layers.Dense(3)(model.input)])
    two.compile("sgd", ["mse", "mae"])
    with pytest.raises(ValueError, match="`loss` must be one loss"):
        gramian(two, data())
    two = keras.Model(two.input, two.output)
    with pytest.raises(ValueError, match="several outputs"):
        gramian(two, data())
