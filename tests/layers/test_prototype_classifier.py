import keras
import numpy as np
import pytest

from keras_mimo.layers import PrototypeClassifier
from tests.backends import gradient

MEANS = np.array([[3.0, 4.0], [1.0, 0.0]], "float32")


def made():
    layer = PrototypeClassifier(2)
    layer.build((None, 2))
    layer.update_prototypes(MEANS, np.array([5.0, 2.0]))
    return layer


def prototypes(layer):
    return keras.ops.convert_to_numpy(layer.prototypes)


def test_logits_are_minus_distances():
    layer = made()
    logits = layer(np.array([[0.0, 0.0], [3.0, 4.0]], "float32"))
    expected = [[-5.0, -1.0], [0.0, -np.sqrt(20)]]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(logits), expected, rtol=1e-6
    )
    assert layer.trainable_weights == []
    copy = PrototypeClassifier.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


def test_gradient_is_finite_on_a_prototype():
    layer = made()
    x = np.array([[3.0, 4.0]], "float32")
    actual = gradient(lambda x: keras.ops.sum(layer(x)), x)
    # Away from the other one, at distance 1.
    np.testing.assert_allclose(actual, -(x - MEANS[1]) / np.sqrt(20), rtol=1e-5)


def test_prototypes_move_from_their_first_mean_on():
    layer = PrototypeClassifier(3)
    layer.build((None, 2))
    nothing = [np.nan, np.nan]
    layer.update_prototypes([[1.0, 2.0], nothing, nothing], [4, 0, 0], 0.2)
    np.testing.assert_allclose(prototypes(layer), [[1, 2], [0, 0], [0, 0]])
    layer.update_prototypes([[2.0, 4.0], [5.0, 6.0], nothing], [1, 1, 0], 0.2)
    np.testing.assert_allclose(
        prototypes(layer), [[1.8, 3.6], [5, 6], [0, 0]], rtol=1e-6
    )
    layer.update_prototypes([nothing, [0.0, 1.0], nothing], [0, 1, 0], 0.2)
    np.testing.assert_allclose(
        prototypes(layer), [[1.8, 3.6], [1, 2], [0, 0]], rtol=1e-6
    )
    known = keras.ops.convert_to_numpy(layer.known)
    np.testing.assert_array_equal(known, [1, 1, 0])


def test_half_precision_does_not_overflow():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = PrototypeClassifier(2)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = layer(np.full((1, 2), 1000.0, "float16"))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(logits), -1000 * np.sqrt(2), rtol=1e-5
    )


def test_bad_units():
    with pytest.raises(ValueError, match="`units` must be a positive integer"):
        PrototypeClassifier(0)
