import keras
import numpy as np
import pytest

from keras_mimo.layers import CosineClassifier
from keras_mimo.losses import LogitAdjusted
from keras_mimo.metrics import BalancedAccuracy
from keras_mimo.models import resnet32


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.slow
def test_parameters():
    # By hand: 31 convolutions without biases, two numbers of batch
    # normalization for each filter, and the classifier.
    convolutions = 9 * (
        3 * 16 + 10 * 16**2 + 16 * 32 + 9 * 32**2 + 32 * 64 + 9 * 64**2
    )
    normalizations = 2 * (11 * 16 + 10 * 32 + 10 * 64)
    dense = resnet32(10, classifier="dense")
    assert trainable(dense) == convolutions + normalizations + 64 * 10 + 10
    assert trainable(dense) == 464154
    cosine = resnet32(10)
    assert trainable(cosine) == convolutions + normalizations + 64 * 10
    kinds = [type(layer).__name__ for layer in dense.layers]
    assert kinds.count("Conv2D") + kinds.count("Dense") == 32


def test_last_layers():
    model = resnet32(7, (16, 16, 1), scale=1.0)
    assert model.output_shape == (None, 7)
    last = model.layers[-1]
    assert isinstance(last, CosineClassifier)
    assert (last.name, last.units, last.scale) == ("classifier", 7, 1.0)
    assert model.get_layer("features").output.shape == (None, 64)
    dense = resnet32(7, (16, 16, 1), classifier="dense").layers[-1]
    assert isinstance(dense, keras.layers.Dense) and dense.name == "classifier"


def test_shortcut_keeps_every_second_pixel():
    """With convolutions of 0 a block is its shortcut, then a ReLU."""
    model = resnet32(2, (8, 8, 1))
    first, *others = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    for layer in others:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    # The first convolution copies the image to its first channel.
    kernel = np.zeros(first.kernel.shape)
    kernel[1, 1, 0, 0] = 1
    first.kernel.assign(kernel)
    image = np.random.default_rng(0).uniform(size=(1, 8, 8, 1))
    features = keras.Model(model.inputs, model.get_layer("features").output)
    result = features.predict(image.astype("float32"), verbose=0)
    expected = np.zeros((1, 64))
    # 8 and then 16 channels of zeros come before.
    expected[0, 24] = image[0, ::4, ::4, 0].mean() / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_strided_convolution_is_centered_on_those_pixels():
    model = resnet32(2, (8, 8, 1))
    strided = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.strides == (2, 2)
    ]
    assert len(strided) == 2
    layer = strided[0]
    kernel = np.zeros(layer.kernel.shape)
    kernel[1, 1, :, :] = np.eye(*kernel.shape[2:])
    layer.kernel.assign(kernel)
    # The last activation before it.
    padding = next(
        x for x in model.layers if isinstance(x, keras.layers.ZeroPadding2D)
    )
    part = keras.Model(model.inputs, [padding.input, layer.output])
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 1))
    before, after = part.predict(image.astype("float32"), verbose=0)
    np.testing.assert_allclose(
        after[..., :16], before[:, ::2, ::2], rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("classifier", ["cosine", "dense"])
def test_fit_and_save(classifier, tmp_path):
    random = np.random.default_rng(0)
    y = np.arange(16) % 2
    x = random.normal(size=(16, 8, 8, 3)) + y[:, None, None, None]
    model = resnet32(2, (8, 8, 3), classifier)
    model.compile(
        keras.optimizers.SGD(0.05),
        loss=LogitAdjusted([8, 8]),
        metrics=[BalancedAccuracy(2)],
    )
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0),
        model.predict(x, verbose=0),
        rtol=1e-4,
        atol=1e-4,
    )


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = resnet32(2, (8, 8, 3))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert model.get_layer("features").output.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"num_classes": 0}, ValueError, "num_classes=0"),
        ({"num_classes": "2"}, TypeError, "num_classes='2'"),
        ({"input_shape": (8, 8)}, ValueError, r"input_shape=\(8, 8\)"),
        ({"classifier": "linear"}, ValueError, "classifier='linear'"),
        ({"scale": 0}, ValueError, "scale=0"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        resnet32(**{"num_classes": 2, **arguments})
