import sys

import numpy as np
import pytest
from PIL import Image

from keras_mimo.datasets import pictures


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P", "1"])
def test_pictures_of_all_modes(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode in ("RGB", "L", "CMYK") else "a.png")
    Image.new("RGB", (30, 20), (255, 255, 255)).convert(mode).save(path)
    read = pictures.read_picture(path)
    assert read.shape == (224, 224, 3) and read.dtype == np.uint8
    np.testing.assert_array_equal(read, 255)


def test_pictures_are_normalized_as_by_torchvision():
    white = pictures.normalize(np.full((1, 2, 2, 3), 255, "uint8"))
    assert white.dtype == np.float32
    np.testing.assert_allclose(
        white[0, 0, 0], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-6
    )


def test_pictures_that_are_damaged_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    Image.effect_noise((64, 64), 50).save(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text", content[9:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.jpg` must be a JPEG or PNG"):
            pictures.read_picture(path)
    with pytest.raises(FileNotFoundError):
        pictures.read_picture(tmp_path / "b.jpg")


def test_only_pictures_are_listed_in_order(tmp_path):
    for name in ("b.JPG", "a.jpeg", "c.png", "Thumbs.db", ".DS_Store"):
        (tmp_path / name).touch()
    assert pictures.list_pictures(tmp_path) == ["a.jpeg", "b.JPG", "c.png"]
    assert pictures.list_pictures(tmp_path / "none") == []
    assert pictures.list_pictures(tmp_path / "b.JPG") == []


@pytest.mark.parametrize(
    "choose, count, frames, chosen",
    [
        (pictures.middles, 3, 1, [1]),
        (pictures.middles, 2, 2, [0, 1]),
        (pictures.middles, 10, 3, [1, 4, 7]),
        (pictures.starts, 10, 3, [0, 3, 6]),
        (pictures.starts, 2, 3, [0, 0, 0]),
        (pictures.numbered, 10, 3, [0, 3, 6]),
        (pictures.numbered, 10, 1, [4]),
        (pictures.numbered, 7, 8, [0] * 8),
        (pictures.numbered, 6, 3, [0, 0, 0]),
    ],
)
def test_which_frames_are_taken(choose, count, frames, chosen):
    assert choose(count, frames) == chosen


def test_pictures_need_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[images\]"):
        pictures.pillow()
