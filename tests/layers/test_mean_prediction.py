import keras
import numpy as np
import pytest

from keras_mimo.layers import MeanPrediction


def logits(*probabilities):
    return np.log(np.array([probabilities], "float32"))


def fused(activation, **inputs):
    inputs = {m: np.array(x, "float32") for m, x in inputs.items()}
    return keras.ops.convert_to_numpy(MeanPrediction(activation)(inputs))


def test_means_by_hand():
    result = fused("softmax", a=logits(0.7, 0.2, 0.1), b=logits(0.1, 0.2, 0.7))
    np.testing.assert_allclose(np.exp(result), [[0.4, 0.2, 0.4]], rtol=1e-5)
    # Not the mean of logits, by which the first and the last would be level
    # with .26 in each of three.
    result = fused(
        "softmax",
        a=logits(0.8, 0.1, 0.1) + 5.0,
        b=logits(0.1, 0.1, 0.8),
        c=logits(0.3, 0.4, 0.3),
    )
    np.testing.assert_allclose(np.exp(result), [[0.4, 0.2, 0.4]], rtol=1e-5)
    # Probabilities .8 and .5; .1 and .3.
    result = fused(
        "sigmoid",
        a=[[np.log(4.0), np.log(1 / 9)]],
        b=[[0.0, np.log(3 / 7)]],
    )
    expected = np.log([[0.65 / 0.35, 0.2 / 0.8]])
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    result = fused("linear", a=[[1.0, 2.0]], b=[[3.0, -2.0]])
    np.testing.assert_array_equal(result, [[2.0, 0.0]])


def test_sure_predictions_stay_finite():
    far = {"a": [[300.0, -300.0]], "b": [[-300.0, 300.0]]}
    np.testing.assert_allclose(
        fused("softmax", **far), np.log([[0.5, 0.5]]), rtol=1e-6
    )
    np.testing.assert_allclose(fused("sigmoid", **far), 0.0, atol=1e-5)


def test_invalid_activation():
    with pytest.raises(ValueError, match="`activation` must be one of"):
        MeanPrediction("relu")
