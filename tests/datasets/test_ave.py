import numpy as np
import pytest
from scipy import signal

from keras_mimo.datasets import load_ave
from tests.datasets.clip_files import noise
from tests.datasets.clip_files import numbers
from tests.datasets.clip_files import write_frames
from tests.datasets.clip_files import write_wav

LISTS = {
    "trainSet.txt": [
        "Truck&a&good&0&10",
        "Bark&b&good&2&7",
        "Bark&a&good&0&10",
    ],
    "valSet.txt": ["Bark&c&good&0&10"],
    "testSet.txt": ["Church bell&d&good&0&10", "Bark&e&good&0&10"],
}


@pytest.fixture
def folder(tmp_path):
    for name, lines in LISTS.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    for name in "abcde":
        write_wav(tmp_path / "audio" / f"{name}.wav", noise(1, 22050), 22050)
        write_frames(tmp_path / "visual" / name, 10, name="frame_{:05d}.jpg")
    return tmp_path


def test_parts(folder):
    train, validation, test = load_ave(folder)
    # In alphabetical order; of clip `a` the first line counts.
    np.testing.assert_array_equal(train.labels, [2, 0])
    np.testing.assert_array_equal(validation.labels, [0])
    np.testing.assert_array_equal(test.labels, [1, 0])
    assert train.shuffle and not validation.shuffle
    x, _ = test[0]
    assert x["audio"].shape == (2, 257, 1004, 1)
    assert x["image"].shape == (2, 3, 224, 224, 3)
    assert x["audio"].dtype == np.float32
    np.testing.assert_array_equal(numbers(x["image"]), [[1, 4, 7]] * 2)


def test_the_spectrogram_is_that_of_scipy(folder):
    audio = load_ave(folder)[2][0][0]["audio"][0, ..., 0]
    samples = (32767 * noise(1, 22050)).round() / 32768
    *_, power = signal.spectrogram(
        np.tile(samples, 10)[:160000], 22050, nperseg=512, noverlap=353
    )
    power = np.log(power + 1e-7)
    power = (power - power.mean()) / power.std()
    np.testing.assert_allclose(audio, power, atol=1e-4)


def test_a_clip_that_is_too_short_is_named(folder):
    write_wav(folder / "audio/d.wav", noise(0.7))
    with pytest.raises(ValueError, match=r"d\.wav` must last 0.73 seconds"):
        load_ave(folder)[2][0]


def test_a_frame_folder_that_is_missing(folder):
    (folder / "visual/d").rename(folder / "visual/f")
    with pytest.warns(UserWarning, match=r"1 lack .*visual/d`; 1 are"):
        assert len(load_ave(folder)[2].labels) == 1
    with pytest.warns(UserWarning, match="; 0 are"):
        test = load_ave(folder, incomplete="mark")[2]
    assert np.isnan(test[0][0]["image"][0]).all()


@pytest.mark.parametrize(
    "line", ["Bark", "Bark&a&good&0", "&a&good&0&10", "Bark&../a&good&0&10"]
)
def test_lines_of_another_form_are_named(folder, line):
    (folder / "valSet.txt").write_text(line)
    with pytest.raises(ValueError, match=r"Line 1 of `.*valSet\.txt` must"):
        load_ave(folder)


@pytest.mark.parametrize("name", [*LISTS, "audio", "visual"])
def test_what_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no `.*/{name}"):
        load_ave(folder)
