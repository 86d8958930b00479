import numpy as np
import pytest

from keras_mimo.datasets import load_vggsound
from keras_mimo.datasets import sound
from tests.datasets.clip_files import noise
from tests.datasets.clip_files import numbers
from tests.datasets.clip_files import write_frames
from tests.datasets.clip_files import write_wav

ROWS = [
    *(f'{name}_,1,"people marching, far",train' for name in "abcd"),
    *(f"{name}_,30,cat purring,train" for name in "efgh"),
    '---g-f_I2yQ,1,"people marching, far",test',
    "--0PQM4-hqg,30,cat purring,test",
]


def paths(folder, name, part):
    return (
        folder / f"{part}-audios/{part}-set/{name}.wav",
        folder / f"{part}-videos/{part}-set-img/Image-01-FPS/{name}.mp4",
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vggsound.csv").write_text("\n".join(ROWS))
    for row in ROWS:
        name, second, *_, part = row.split(",")
        wav, images = paths(tmp_path, f"{name}_{second}", part)
        write_wav(wav, noise(10))
        write_frames(images, 10)
    return tmp_path


def load(folder, **options):
    return load_vggsound(folder, validation_split=0.25, **options)


def test_parts(folder):
    train, validation, test = load(folder)
    assert [len(part.labels) for part in (train, validation, test)] == [6, 2, 2]
    x, y = test[0]
    assert x["audio"].shape == (2, 129, 626, 1)
    assert x["image"].shape == (2, 3, 224, 224, 3)
    np.testing.assert_array_equal(y, [1, 0])
    np.testing.assert_array_equal(numbers(x["image"]), [[1, 4, 7]] * 2)


def test_five_seconds_from_the_middle(folder):
    audio = load(folder)[2][0][0]["audio"][0, ..., 0]
    middle = (32767 * noise(10)).round()[40000:120000] / 32768
    np.testing.assert_allclose(
        audio, sound.log_stft(middle, 256, 128), atol=1e-4
    )


def test_a_short_clip_is_doubled(folder):
    wav, _ = paths(folder, "---g-f_I2yQ_1", "test")
    write_wav(wav, noise(3))
    audio = load(folder)[2][0][0]["audio"][0, ..., 0]
    doubled = np.tile((32767 * noise(3)).round() / 32768, 4)[40000:120000]
    np.testing.assert_allclose(
        audio, sound.log_stft(doubled, 256, 128), atol=1e-4
    )
    write_wav(wav, [])
    with pytest.raises(ValueError, match=r"I2yQ_1\.wav` must hold sound"):
        load(folder)[2][0]


def test_folders_without_an_ending(folder):
    _, images = paths(folder, "---g-f_I2yQ_1", "test")
    images.rename(images.with_suffix(""))
    assert len(load(folder)[2].labels) == 2


def test_few_frames(folder):
    _, images = paths(folder, "---g-f_I2yQ_1", "test")
    for image in sorted(images.iterdir())[3:]:
        image.unlink()
    with pytest.warns(UserWarning, match=r"Of 2 clips.*1 lack .* 4 pictures"):
        assert list(load(folder)[2].labels) == [0]


@pytest.mark.parametrize(
    "line",
    ["a,1,b", "a,x,b,test", "a,1,b,valid", "../a,1,b,test", "id,start,b,split"],
)
def test_lines_of_another_form_are_named(folder, line):
    (folder / "vggsound.csv").write_text(f"{ROWS[0]}\n{line}")
    with pytest.raises(ValueError, match=r"Line 2 of `.*vggsound\.csv` must"):
        load(folder)


def test_a_list_of_one_part(folder):
    (folder / "vggsound.csv").write_text(ROWS[0])
    with pytest.raises(ValueError, match=r"both parts\. .* of 'test'"):
        load(folder)


@pytest.mark.parametrize("name", ["vggsound.csv", "test-audios"])
def test_what_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"no `.*/{name}"):
        load(folder)
