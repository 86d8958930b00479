import keras
import numpy as np
import pytest

from keras_mimo.layers import CosineClassifier
from tests.backends import gradient


def features(shape=(5, 4)):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def cosines(x, kernel):
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return x @ (kernel / np.linalg.norm(kernel, axis=0))


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4)])
def test_formula(shape):
    x = features(shape)
    layer = CosineClassifier(3, scale=7)
    logits = keras.ops.convert_to_numpy(layer(x))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    assert kernel.shape == (4, 3)
    np.testing.assert_allclose(logits, 7 * cosines(x, kernel), rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-4, 1e15])
def test_length_of_features_does_not_matter(factor):
    layer = CosineClassifier(3)
    expected = keras.ops.convert_to_numpy(layer(features()))
    scaled = layer(features() * np.float32(factor))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(scaled), expected, rtol=1e-3, atol=1e-5
    )


def test_zero_features():
    layer = CosineClassifier(3)
    x = features()
    x[0] = 0
    assert not keras.ops.convert_to_numpy(layer(x))[0].any()
    slope = gradient(lambda x: keras.ops.sum(layer(x)), x)
    assert np.isfinite(slope).all() and slope.any()


def test_mixed_precision_does_not_overflow():
    # The squares are more than float16 has.
    x = 1000 * features()
    layer = CosineClassifier(3, dtype="mixed_float16")
    logits = layer(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "float16"
    assert layer.kernel.dtype == "float32"
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(logits),
        30 * cosines(x, kernel),
        rtol=2e-3,
        atol=2e-2,
    )


def test_fit_and_save(tmp_path):
    y = np.arange(60) % 3
    x = np.eye(3)[y] + 0.1 * features((60, 3))
    model = keras.Sequential([keras.Input((3,)), CosineClassifier(3, 10.0)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=10, batch_size=10, verbose=0)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert accuracy == 1

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((0,), ValueError, "units=0"),
        ((2.5,), TypeError, "units=2.5"),
        ((3, -1), ValueError, "scale=-1"),
        ((3, "x"), TypeError, "scale=x"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        CosineClassifier(*arguments)
