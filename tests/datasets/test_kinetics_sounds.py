import numpy as np
import pytest

from keras_mimo.datasets import load_kinetics_sounds
from keras_mimo.datasets import sound
from tests.datasets.clip_files import noise
from tests.datasets.clip_files import numbers
from tests.datasets.clip_files import write_frames
from tests.datasets.clip_files import write_wav

TRAIN = [f"-3Mwkq-7TV{i}_2" for i in range(4)]
TEST = ["-74csnCOiUs_0", "-7aeB7vFtB4_37"]
FOLDERS = {
    "train": ("train_wav/train", "train-frames-1fps/train"),
    "test": ("test_wav/test", "val-frames-1fps/test"),
}


def write_clip(folder, part, name, seconds=1, frames=10):
    sounds, images = FOLDERS[part]
    write_wav(folder / sounds / f"{name}.wav", noise(seconds))
    if frames:
        write_frames(folder / images / name, frames, name="frame_{:05d}.jpg")


@pytest.fixture
def folder(tmp_path):
    for part, names in (("train", TRAIN), ("test", TEST)):
        lines = [f"{name},10,{i % 2}\n" for i, name in enumerate(names)]
        (tmp_path / f"my_{part}.txt").write_text("".join(lines))
        for name in names:
            write_clip(tmp_path, part, name)
    return tmp_path


def load(folder, **options):
    return load_kinetics_sounds(folder, validation_split=0.5, **options)


def test_parts(folder):
    train, validation, test = load(folder)
    assert sorted(train.labels) == sorted(validation.labels) == [0, 1]
    assert train.shuffle and not test.shuffle
    x, y = test[0]
    assert x["audio"].shape == (2, 1024, 128, 1)
    assert x["image"].shape == (2, 3, 224, 224, 3)
    np.testing.assert_array_equal(y, [0, 1])
    np.testing.assert_array_equal(numbers(x["image"]), [[1, 4, 7]] * 2)
    assert np.isfinite(x["audio"]).all()


def test_energies_are_padded_and_scaled(folder):
    audio = load(folder)[2][0][0]["audio"][0, ..., 0]
    np.testing.assert_allclose(audio[98:], 4.503877 / 10.282552, rtol=1e-6)
    energies = sound.kaldi_fbank(noise(1), 16000, 128)
    assert energies.shape == (98, 128)
    np.testing.assert_allclose(
        audio[:98], (energies + 4.503877) / 10.282552, atol=0.02
    )


def test_energies_are_cut_and_of_the_first_channel(folder):
    path = folder / "test_wav/test" / f"{TEST[0]}.wav"
    write_wav(path, np.stack([noise(11), np.zeros(11 * 16000)], 1))
    audio = load(folder)[2][0][0]["audio"][0, ..., 0]
    energies = sound.kaldi_fbank(noise(11), 16000, 128)[:1024]
    np.testing.assert_allclose(
        audio, (energies + 4.503877) / 10.282552, atol=0.02
    )


def test_energies_at_another_rate(folder):
    path = folder / "test_wav/test" / f"{TEST[0]}.wav"
    write_wav(path, noise(1, 44100), 44100)
    audio = load(folder)[2][0][0]["audio"][0, ..., 0]
    np.testing.assert_allclose(audio[98:], 4.503877 / 10.282552, rtol=1e-6)


def test_a_clip_that_is_too_short_is_named(folder):
    write_wav(folder / "test_wav/test" / f"{TEST[1]}.wav", noise(0.02))
    with pytest.raises(ValueError, match=rf"{TEST[1]}\.wav` must last 25 ms"):
        load(folder)[2][0]


def test_few_frames(folder):
    for name, frames in (("a", 6), ("b", 3)):
        write_clip(folder, "test", name, frames=frames)
    with (folder / "my_test.txt").open("a") as file:
        # The form of BalanceBenchmark.
        file.write("a 10 30\nb 10 30\n")
    with pytest.warns(UserWarning, match=r"1 lack .* 4 pictures, .*/b`; 1 are"):
        test = load(folder)[2]
    np.testing.assert_array_equal(test.labels, [0, 1, 30])
    np.testing.assert_array_equal(numbers(test[0][0]["image"])[2], [1, 1, 1])
    with pytest.warns(UserWarning, match="; 0 are left out"):
        test = load(folder, incomplete="mark")[2]
    assert np.isnan(test[0][0]["image"][3]).all()
    assert np.isfinite(test[0][0]["audio"]).all()


@pytest.mark.parametrize("line", ["a", "a,10,31", "a,10,-1", "a,b", "a/b,10,1"])
def test_lines_of_another_form_are_named(folder, line):
    (folder / "my_test.txt").write_text(line)
    with pytest.raises(ValueError, match=r"Line 1 of `.*my_test\.txt` must"):
        load(folder)


@pytest.mark.parametrize("name", ["my_train.txt", "test_wav"])
def test_what_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no `.*/{name}"):
        load(folder)
