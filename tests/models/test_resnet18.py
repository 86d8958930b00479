import keras
import numpy as np
import pytest

from keras_mimo.models import ResNet18


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.slow
def test_parameters_are_those_of_torchvision():
    # resnet18() has 11,689,512, of which the last layer has 512 * 1000 + 1000.
    model = ResNet18((64, 64))
    assert trainable(model) == 11_689_512 - 513_000 == 11_176_512
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 512)
    # The first kernel has two channels less.
    grey = ResNet18((257, 188), channels=1)
    assert trainable(grey) == 11_176_512 - 7 * 7 * 2 * 64
    assert grey.input_shape == (None, 257, 188, 1)


@pytest.mark.slow
def test_shapes():
    model = ResNet18((20, 20, 5), filters=3, name="sound")
    assert model.input_shape == (None, 20, 20, 5)
    assert model.output_shape == (None, 24)
    assert model.name == "sound"
    assert ResNet18((20, 20, 1), 1, filters=2).input_shape[-1] == 1


def windows(x, size, stride, padding, fill=0.0):
    """The windows of a picture, padded on all sides alike, as in PyTorch."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = np.pad(x, sides, constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return views[:, ::stride, ::stride]


def reference(model, x):
    """torchvision's network, with the weights of the model's layers."""
    convolutions = in_order(model, keras.layers.Conv2D)
    normalizations = in_order(model, keras.layers.BatchNormalization)

    def convolve(x, size, stride, padding):
        (kernel,) = next(convolutions).get_weights()
        assert kernel.shape[0] == size
        view = windows(x, size, stride, padding)
        x = np.einsum("nhwcij,ijco->nhwo", view, kernel)
        scale, shift, mean, variance = next(normalizations).get_weights()
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def relu(x):
        return np.maximum(x, 0)

    x = relu(convolve(x, 7, 2, 3))
    x = windows(x, 3, 2, 1, fill=-np.inf).max(axis=(-2, -1))
    for stage in range(4):
        for stride in (1, 1) if stage == 0 else (2, 1):
            shortcut = x if stride == 1 else convolve(x, 1, 2, 0)
            y = relu(convolve(x, 3, stride, 1))
            x = relu(convolve(y, 3, 1, 1) + shortcut)
    assert not list(convolutions)
    return x.mean(axis=(1, 2))


def in_order(model, kind):
    """The layers of a class, in the order in which they were made."""
    layers = [x for x in model.layers if isinstance(x, kind)]

    def number(layer):
        *_, last = layer.name.split("_")
        return int(last) if last.isdecimal() else 0

    return iter(sorted(layers, key=number))


def test_features_are_those_of_torchvision():
    # Odd and even sizes, for which "same" pads differently.
    model = ResNet18((45, 38), channels=2, filters=4)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 1.5, size) for _ in range(4)])
    x = rng.normal(size=(3, 45, 38, 2)).astype("float32")
    features = model.predict(x, verbose=0)
    np.testing.assert_allclose(features, reference(model, x), rtol=1e-4)


def test_initial_weights_are_those_of_torchvision():
    model = ResNet18((32, 32), filters=32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            (kernel,) = layer.get_weights()
            # kaiming_normal_(mode="fan_out", nonlinearity="relu")
            expected = np.sqrt(2 / (kernel.size / kernel.shape[2]))
            assert abs(kernel.std() / expected - 1) < 0.05
            # Not truncated.
            assert abs(kernel).max() > 2.5 * expected


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"input_shape": (8,)}, ValueError, r"input_shape=\(8,\)"),
        ({"input_shape": (8, 8, 3), "channels": 1}, ValueError, "channels=1"),
        ({"input_shape": (8, 8), "channels": 0}, ValueError, "channels=0"),
        ({"input_shape": (8, 8, None)}, TypeError, "channels=None"),
        ({"input_shape": (8, 8), "filters": 1.5}, TypeError, "filters=1.5"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        ResNet18(**arguments)
