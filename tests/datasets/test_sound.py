import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from keras_mimo.datasets import sound
from tests.datasets.clip_files import write_wav

# Of librosa and torchaudio: make_sound_references.py says how it was made.
REFERENCES = dict(np.load(Path(__file__).with_name("sound_references.npz")))
SAMPLES = REFERENCES["sound"].astype("float32") / 32768
# As the references are kept.
ROWS = slice(None, None, 8)


@pytest.mark.parametrize("size, hop", [(512, 353), (256, 128)])
def test_spectrograms_are_those_of_librosa(size, hop):
    spectrogram = sound.log_stft(SAMPLES, size, hop)
    assert spectrogram.shape == (size // 2 + 1, len(SAMPLES) // hop + 1)
    assert spectrogram.dtype == np.float32
    np.testing.assert_allclose(
        spectrogram[ROWS], REFERENCES[f"stft_{size}_{hop}"], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("rate", [16000, 44100])
def test_energies_are_those_of_kaldi(rate):
    energies = sound.kaldi_fbank(SAMPLES, rate, 128)
    assert energies.dtype == np.float32
    # As Kinetics-Sounds scales them; the reference is computed in float32.
    np.testing.assert_allclose(
        energies[:, ROWS] / 10.282552,
        REFERENCES[f"fbank_{rate}"] / 10.282552,
        atol=1e-4,
        rtol=0,
    )


def test_resampled_sound_is_that_of_librosa():
    resampled = sound.resample(SAMPLES, 16000, 22050)
    assert len(resampled) == np.ceil(len(SAMPLES) * 22050 / 16000)
    np.testing.assert_allclose(
        resampled[::16], REFERENCES["resampled"], atol=5e-5, rtol=0
    )


def test_bands_that_a_file_lacks_stay_empty():
    """Where the logarithm makes much of what a filter lets through."""
    resampled = sound.resample(SAMPLES, 16000, 22050)
    difference = np.abs(
        sound.log_stft(resampled, 512, 353)[ROWS] - REFERENCES["resampled_stft"]
    )
    frequency = np.arange(257)[ROWS] * 22050 / 512
    # What the file has: the first and the last column hear a cut.
    assert np.median(difference[frequency < 7200]) < 1e-4
    assert difference[frequency < 7200, 1:-1].max() < 0.02
    # What it has not: SciPy's own filter is 5 off.
    assert np.median(difference[frequency > 8100]) < 0.2


def test_sound_that_needs_no_resampling_is_left_alone():
    assert sound.resample(SAMPLES, 16000, 16000) is SAMPLES


def test_energies_of_sound_shorter_than_a_frame():
    assert sound.kaldi_fbank(SAMPLES[:399], 16000, 128).shape == (0, 128)
    assert sound.kaldi_fbank(SAMPLES[:400], 16000, 128).shape == (1, 128)


def test_channels_are_mixed(tmp_path):
    write_wav(tmp_path / "a.wav", [[0.5, 0.25], [-1.0, 0.0]], 8000)
    samples, rate = sound.read_wav(tmp_path / "a.wav")
    assert rate == 8000 and samples.shape == (2, 2)
    np.testing.assert_allclose(
        sound.read_mono(tmp_path / "a.wav", 8000), [0.375, -0.5], atol=1e-4
    )


@pytest.mark.parametrize(
    "samples",
    [
        np.array([0, 128, 192], "uint8"),
        np.array([-(2**15), 0, 2**14], "int16"),
        np.array([-(2**31), 0, 2**30], "int32"),
        np.array([-1, 0, 0.5], "float32"),
        np.array([-1, 0, 0.5], "float64"),
    ],
)
def test_full_scale_is_one(tmp_path, samples):
    wavfile.write(tmp_path / "a.wav", 16000, samples)
    read, _ = sound.read_wav(tmp_path / "a.wav")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[:, 0], [-1, 0, 0.5])


def test_24_bit(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(16000)
        file.writeframes(b"\x00\x00\x80\x00\x00\x40")
    read, _ = sound.read_wav(tmp_path / "a.wav")
    np.testing.assert_array_equal(read[:, 0], [-1, 0.5])


@pytest.mark.parametrize("content", [b"", b"RIFF", b"ID3 no wav at all"])
def test_files_that_are_damaged_are_named(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.wav` must be a \.wav file"):
        sound.read_wav(tmp_path / "a.wav")


def test_a_header_that_is_cut(tmp_path):
    write_wav(tmp_path / "a.wav", [0.5] * 9)
    content = (tmp_path / "a.wav").read_bytes()
    for size in range(44):
        (tmp_path / "a.wav").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.wav` must"):
            sound.read_wav(tmp_path / "a.wav")


def test_sound_that_is_cut_is_read_as_far_as_it_goes(tmp_path):
    write_wav(tmp_path / "a.wav", [0.5] * 9)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-3])
    # By librosa too.
    with pytest.warns(wavfile.WavFileWarning, match="EOF"):
        samples, _ = sound.read_wav(tmp_path / "a.wav")
    assert samples.shape == (7, 1)


def test_files_without_sound_are_named(tmp_path):
    write_wav(tmp_path / "a.wav", [])
    with pytest.raises(ValueError, match=r"a\.wav` must hold sound"):
        sound.read_wav(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError):
        sound.read_wav(tmp_path / "b.wav")


def test_sound_needs_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io.wavfile", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[sound\]"):
        sound.scipy_signal()
