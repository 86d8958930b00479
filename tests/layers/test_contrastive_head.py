import keras
import numpy as np
import pytest

from keras_mimo.layers import ClassPrototypes
from keras_mimo.layers import ContrastiveHead
from keras_mimo.layers import CosineClassifier
from keras_mimo.layers import UnitProjection

FEATURES, CLASSES, UNITS = 16, 3, 6


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def by_the_formula(layer, x):
    w1, b1, w2, b2 = layer.get_weights()
    y = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


@pytest.mark.parametrize("kind", [ClassPrototypes, UnitProjection])
@pytest.mark.parametrize("hidden_units", [None, 24])
def test_projection(kind, hidden_units):
    layer = kind(UNITS, hidden_units)
    x = array(CLASSES, FEATURES)
    result = keras.ops.convert_to_numpy(layer(x))
    assert layer.get_weights()[0].shape == (FEATURES, hidden_units or FEATURES)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(result, by_the_formula(layer, x), rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, FEATURES), (5, 2, FEATURES)])
@pytest.mark.parametrize(
    "classifier", [CosineClassifier(CLASSES), keras.layers.Dense(CLASSES)]
)
def test_head(shape, classifier):
    # A copy: the parameters of tests share the layer.
    classifier = type(classifier).from_config(classifier.get_config())
    head = ContrastiveHead(classifier, UNITS, 8)
    x = array(*shape)
    result = {
        name: keras.ops.convert_to_numpy(output)
        for name, output in head(x).items()
    }
    first = x if len(shape) == 2 else x[:, 0]
    np.testing.assert_allclose(
        result["logits"],
        keras.ops.convert_to_numpy(classifier(first)),
        rtol=1e-5,
    )
    projected = by_the_formula(head.projection, x)
    prototypes = by_the_formula(
        head.prototypes, keras.ops.convert_to_numpy(classifier.kernel).T
    )
    np.testing.assert_allclose(
        result["contrast"],
        np.concatenate([projected, projected @ prototypes.T], axis=-1),
        rtol=1e-3,
        atol=1e-5,
    )


def test_unknown_batch_and_clone():
    inputs = keras.Input((2, FEATURES))
    head = ContrastiveHead(CosineClassifier(CLASSES), UNITS)
    model = keras.Model(inputs, head(inputs))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = array(5, 2, FEATURES)
    outputs = model.predict(x, verbose=0)
    assert outputs["logits"].shape == (5, CLASSES)
    assert outputs["contrast"].shape == (5, 2, UNITS + CLASSES)
    for name, output in outputs.items():
        np.testing.assert_allclose(
            clone.predict(x, verbose=0)[name], output, rtol=1e-4, atol=1e-5
        )
    # The copy's prototypes follow the copy's classifier.
    before = clone.predict(x, verbose=0)["contrast"][..., UNITS:]
    kernel = clone.layers[-1].classifier.kernel
    kernel.assign(-keras.ops.convert_to_tensor(kernel))
    after = clone.predict(x, verbose=0)["contrast"][..., UNITS:]
    assert np.abs(after - before).max() > 1e-3


def test_mixed_precision_keeps_the_contrast_exact():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = ContrastiveHead(CosineClassifier(CLASSES), UNITS)
    finally:
        keras.config.set_dtype_policy("float32")
    contrast = head(array(5, FEATURES).astype("float16"))["contrast"]
    assert keras.backend.standardize_dtype(contrast.dtype) == "float32"
    features = keras.ops.convert_to_numpy(contrast)[:, :UNITS]
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ContrastiveHead("dense"), TypeError, "classifier='dense'"),
        (lambda: ClassPrototypes(0), ValueError, "units=0"),
        (lambda: ClassPrototypes(2, "x"), TypeError, "hidden_units='x'"),
        (
            lambda: ContrastiveHead(CosineClassifier(3), units=1.5),
            TypeError,
            "units=1.5",
        ),
        (
            lambda: ContrastiveHead(keras.layers.ReLU())(array(2, 3)),
            ValueError,
            r"must have a `kernel` of shape \(3, classes\)",
        ),
        (
            lambda: ContrastiveHead(CosineClassifier(3))(array(2, 3, 3, 3)),
            ValueError,
            r"input_shape=\(2, 3, 3, 3\)",
        ),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()
