import pickle

import numpy as np
import pytest

from keras_mimo.datasets import CREMA_D_CLASSES
from keras_mimo.datasets import load_crema_d
from keras_mimo.datasets import sound
from tests.datasets.clip_files import clip_model
from tests.datasets.clip_files import noise
from tests.datasets.clip_files import numbers
from tests.datasets.clip_files import write_frames
from tests.datasets.clip_files import write_wav

TRAIN = [
    f"10{i:02}_IEO_{label}_XX" for i in range(4) for label in ("NEU", "SAD")
]
TEST = ["1090_IEO_ANG_XX", "1091_IEO_FEA_XX"]


def write_clip(folder, name, seconds=1.5, frames=3):
    write_wav(folder / "AudioWAV" / f"{name}.wav", noise(seconds))
    if frames:
        write_frames(folder / "Image-01-FPS" / name, frames)


def write_list(folder, file, names):
    lines = [f"{name},{name.split('_')[2]}\n" for name in names]
    # A byte order mark, as the real lists have.
    (folder / file).write_text("".join(lines), encoding="utf-8-sig")


@pytest.fixture
def folder(tmp_path):
    write_list(tmp_path, "train.csv", TRAIN)
    write_list(tmp_path, "test.csv", TEST)
    for name in TRAIN + TEST:
        write_clip(tmp_path, name)
    return tmp_path


def load(folder, **options):
    options = {"validation_split": 0.25, "batch_size": 4, **options}
    return load_crema_d(folder, **options)


def test_parts(folder):
    train, validation, test = load(folder)
    assert [len(part.labels) for part in (train, validation, test)] == [6, 2, 2]
    assert sorted(validation.labels) == [0, 2]
    assert [CREMA_D_CLASSES[i] for i in test.labels] == ["ANG", "FEA"]
    assert train.shuffle and not validation.shuffle and not test.shuffle
    x, y = train[0]
    assert x["audio"].shape == (4, 257, 188, 1)
    assert x["image"].shape == (4, 1, 224, 224, 3)
    assert x["audio"].dtype == x["image"].dtype == np.float32
    assert y.dtype == np.int32
    np.testing.assert_array_equal(numbers(x["image"]), 2)


def test_the_seed_decides_what_is_split_off(folder):
    names = [
        tuple(clip.sound for clip in load(folder, seed=seed)[1].read.clips)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert names[0] == names[1]
    assert len(set(names)) > 1


def test_the_sound_is_tiled_and_cut(folder):
    (test,) = load(folder)[2:]
    samples = noise(1.5).astype("float32")
    tiled = np.tile(sound.resample(samples, 16000, 22050), 3)[:66150]
    np.testing.assert_allclose(
        # 16 bit.
        test[0][0]["audio"][0, ..., 0][:180],
        sound.log_stft(tiled, 512, 353)[:180],
        atol=0.1,
    )


def test_loud_sound_of_another_rate_and_two_channels(folder):
    square = np.sign(np.sin(np.arange(48000 * 2) / 9))
    path = folder / "AudioWAV" / f"{TEST[0]}.wav"
    write_wav(path, np.stack([square, square], 1), 48000)
    audio = load(folder)[2][0][0]["audio"]
    assert np.isfinite(audio).all() and audio.shape == (2, 257, 188, 1)


def test_a_clip_that_is_too_short_is_named(folder):
    write_wav(folder / "AudioWAV" / f"{TEST[0]}.wav", noise(0.9))
    test = load(folder)[2]
    with pytest.raises(ValueError, match=rf"{TEST[0]}\.wav` must last a s"):
        test[0]


def test_grey_frames_and_more_of_them(folder):
    write_frames(folder / "Image-01-FPS" / TEST[0], 7, mode="L")
    write_frames(folder / "Image-01-FPS" / TEST[1], 5)
    image = load(folder, frames=2)[2][0][0]["image"]
    np.testing.assert_array_equal(numbers(image), [[2, 5], [2, 4]])


def test_clips_that_lack_a_modality_are_left_out(folder):
    write_clip(folder, "1099_IEO_HAP_XX", frames=0)
    write_clip(folder, "1098_IEO_HAP_XX", frames=1)
    names = [*TEST, "1099_IEO_HAP_XX", "1098_IEO_HAP_XX", "1097_IEO_HAP_XX"]
    write_list(folder, "test.csv", names)
    match = r"Of 5 clips.*test\.csv`, 3 lack .* 2 pictures.*/1099.*; 3 are left"
    with pytest.warns(UserWarning, match=match):
        test = load(folder, frames=2)[2]
    assert len(test.labels) == 2


def test_clips_that_lack_a_modality_are_marked(folder):
    write_clip(folder, "1099_IEO_HAP_XX", frames=0)
    write_frames(folder / "Image-01-FPS" / "1098_IEO_HAP_XX", 1)
    # The last has neither, and is left out.
    names = [TEST[0], "1099_IEO_HAP_XX", "1098_IEO_HAP_XX", "1097_IEO_HAP_XX"]
    write_list(folder, "test.csv", names)
    with pytest.warns(UserWarning, match="3 lack .* 1 are left out"):
        test = load(folder, incomplete="mark")[2]
    x, y = test[0]
    np.testing.assert_array_equal(y, [5, 1, 1])
    for name, lost in (("audio", 2), ("image", 1)):
        missing = np.isnan(x[name])
        assert missing[lost].all() and missing.sum() == missing[lost].size
        assert x[name].dtype == np.float32


def test_no_clip_at_all(folder):
    write_list(folder, "test.csv", ["1099_IEO_HAP_XX"])
    with pytest.raises(ValueError, match=r"1 clips .*the first.*1099.*\.wav`"):
        load(folder)


@pytest.mark.parametrize(
    "name", ["train.csv", "test.csv", "AudioWAV", "Image-01-FPS"]
)
def test_what_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no `.*/{name}`"):
        load(folder)


@pytest.mark.parametrize(
    "line",
    ["1001_IEO_NEU_XX", "a,NEU,b", "a,neu", ",NEU", "../secret,NEU", "..,NEU"],
)
def test_lines_of_another_form_are_named(folder, line):
    (folder / "test.csv").write_text(f"{TEST[0]},ANG\n\n{line}\n")
    with pytest.raises(ValueError, match=r"Line 3 of `.*test\.csv` must"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\xff"])
def test_a_list_that_is_empty_or_no_text(folder, content):
    (folder / "train.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.csv` must"):
        load(folder)


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"incomplete": "keep"}, ValueError, "`incomplete` must be one of"),
        ({"frames": 0}, ValueError, "`frames` must be a positive"),
        ({"frames": 1.5}, TypeError, "`frames` must be a positive"),
        ({"validation_split": 0}, ValueError, "must be between 0 and 1"),
        ({"validation_split": 0.01}, ValueError, "must leave a clip"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be"),
    ],
)
def test_bad_arguments(folder, options, error, match):
    with pytest.raises(error, match=match):
        load(folder, **options)


def test_files_are_decoded_once(folder, monkeypatch):
    first = load(folder, cache=folder / "cache")[2][0][0]
    monkeypatch.setattr(sound, "read_wav", None)
    monkeypatch.setattr("keras_mimo.datasets.pictures.read_picture", None)
    again = load(folder, cache=folder / "cache")[2]
    # As a worker process has it.
    again.read = pickle.loads(pickle.dumps(again.read))
    for name, array in again[0][0].items():
        np.testing.assert_array_equal(array, first[name])


@pytest.mark.slow
def test_training_with_clips_that_lack_a_modality(folder):
    (folder / "AudioWAV" / f"{TRAIN[0]}.wav").unlink()
    with pytest.warns(UserWarning, match="1 lack"):
        train, validation, _ = load(
            folder, incomplete="mark", cache=folder / "cache", workers=2
        )
    model = clip_model((257, 188, 1), 1, 6, missing=True)
    history = model.fit(train, validation_data=validation, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["val_loss"]).all()
