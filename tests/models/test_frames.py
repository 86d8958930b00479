import keras
import numpy as np
import pytest

from keras_mimo.models import ResNet18
from keras_mimo.models import frames


@pytest.mark.slow
def test_features_are_means_over_frames():
    encoder = ResNet18((16, 20), channels=1, filters=2)
    model = frames(encoder, 3)
    assert model.input_shape == (None, 3, 16, 20, 1)
    assert model.output_shape == (None, 16)
    assert model.name == "resnet18_frames"
    x = np.random.default_rng(0).normal(size=(2, 3, 16, 20, 1))
    x = x.astype("float32")
    each = [encoder.predict(x[:, i], verbose=0) for i in range(3)]
    np.testing.assert_allclose(
        model.predict(x, verbose=0), np.mean(each, axis=0), rtol=1e-4
    )
    assert model.count_params() == encoder.count_params()


def test_any_model_of_one_input_will_do():
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(5, 2)(inputs)
    encoder = keras.Model(inputs, keras.layers.Flatten()(x))
    model = frames(encoder, count=2, name="clip")
    assert model.name == "clip"
    assert model.input.dtype == "int32"
    assert model.output_shape == (None, 8)
    sequential = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    assert frames(sequential, 2).output_shape == (None, 3)


@pytest.mark.parametrize(
    ("encoder", "count", "error", "match"),
    [
        (lambda: keras.layers.Dense(2), 3, TypeError, "must be a Keras model"),
        (lambda: ResNet18((8, 8), filters=1), 0, ValueError, "count=0"),
        (
            lambda: keras.Sequential([keras.layers.Dense(2)]),
            3,
            ValueError,
            "inputs None",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((None, 4)), keras.layers.LSTM(2)]
            ),
            3,
            ValueError,
            r"inputs \(None, None, 4\)",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((5, 4)), keras.layers.Dense(4)]
            ),
            3,
            ValueError,
            r"outputs \(None, 5, 4\)",
        ),
    ],
)
def test_bad_arguments(encoder, count, error, match):
    with pytest.raises(error, match=match):
        frames(encoder(), count)
