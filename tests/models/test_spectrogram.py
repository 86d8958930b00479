import numpy as np
import pytest

from keras_mimo.datasets.sound import log_stft
from keras_mimo.models import ResNet18
from keras_mimo.models import spectrogram


@pytest.mark.parametrize(
    ("window", "hop", "offset"), [(512, 353, 1e-7), (64, 50, 1e-3)]
)
def test_it_is_the_logarithm_of_magnitudes(window, hop, offset):
    random = np.random.default_rng(0)
    wave = random.uniform(-1, 1, size=(2, 4001)).astype("float32")
    model = spectrogram(4001, window, hop, offset)
    # Which is tested against librosa.
    stft = [np.exp(log_stft(x, window, hop)) - 1e-7 for x in wave]
    expected = np.log(np.maximum(stft, 0) + offset)
    shape = (1 + window // 2, 1 + 4001 // hop)
    assert model.output_shape == (None, *shape, 1)
    assert expected.shape == (2, *shape)
    actual = model.predict(wave, verbose=0)[..., 0]
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert not model.weights


def test_silence():
    model = spectrogram(400, 64, 50)
    silence = model.predict(np.zeros((1, 400)), verbose=0)
    np.testing.assert_allclose(silence, np.log(1e-7), rtol=1e-6)


@pytest.mark.slow
def test_three_seconds_are_those_of_crema_d():
    encoder = ResNet18((257, 188), channels=1, filters=2)
    assert spectrogram(66150).output_shape == (None, 257, 188, 1)
    model = spectrogram(66150, encoder=encoder, name="sound")
    assert model.output_shape == (None, 16)
    assert model.name == "sound"


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"length": 0}, ValueError, "length=0"),
        ({"window": 63}, ValueError, "window=63"),
        ({"window": 400}, ValueError, "window=400, length=400"),
        ({"hop": 1.5}, TypeError, "hop=1.5"),
        ({"offset": 0}, ValueError, "offset=0"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        spectrogram(**{"length": 400, "window": 64, **arguments})
