import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from keras_mimo.datasets import load_emoji
from keras_mimo.datasets import load_emoji_index
from tests.datasets.archives import write_folder
from tests.datasets.archives import write_npm

# In the order of the file, with the classes that are too small or no emoji.
COUNTS = {"face-sleepy": 4, "arrow": 10, "animal-bug": 5, "gender": 3}


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def hexcode(number):
    # Every other one with the sign for colour.
    return f"{0x1F600 + number:X}" + ("-FE0F" if number % 2 else "")


def colour(number):
    return (number * 10, 255 - number * 10, 77)


class Packages:
    """The two packages, tiny: tests change them and write them."""

    def __init__(self):
        names = [name for name, n in COUNTS.items() for _ in range(n)]
        self.index = [
            {
                "name": f"NUMBER {number}",
                "unified": hexcode(number),
                "image": f"{hexcode(number).lower()}.png",
                "short_name": f"number_{number}",
                "category": "Symbols",
                "subcategory": name,
                "has_img_google": True,
                "skin_variations": {"1F3FB": {"unified": "1F600-1F3FB"}},
            }
            for number, name in enumerate(names)
        ]
        self.index += [
            {**entry, "unified": f"1F9B{k}", "category": "Component"}
            for k, entry in enumerate(self.index[:4])
        ]
        self.keywords = [
            {
                "label": f"number {number}",
                # Without the sign for colour, as emojibase has some.
                "hexcode": hexcode(number).split("-")[0],
                "tags": [name, "all", f"only {number}", f"third {number % 3}"],
            }
            for number, name in enumerate(names)
        ]
        # A part of flags: no tags.
        self.keywords.append({"label": "regional", "hexcode": "1F1E6"})
        self.pictures = {
            f"img/google/64/{hexcode(number).lower()}.png": png(
                Image.new("RGBA", (64, 64), (*colour(number), 255))
            )
            for number in range(len(names))
        }

    def contents(self):
        return {
            "emoji-datasource-google": {
                "emoji.json": json.dumps(self.index).encode(),
                **self.pictures,
                "img/google/sheets/32.png": b"-",
            },
            "emojibase-data": {
                "en/data.json": json.dumps(self.keywords).encode()
            },
        }

    def write(self, folder, packed=True):
        for name, files in self.contents().items():
            if packed:
                write_npm(folder / f"{name}-16.0.0.tgz", files)
            else:
                write_folder(folder / name, files)
        return folder


@pytest.fixture
def packages():
    return Packages()


def number(emoji):
    return int(emoji.name.removeprefix("number_"))


@pytest.mark.parametrize("packed", [True, False])
def test_pictures_keywords_labels_and_names_belong_together(
    tmp_path, packages, packed
):
    packages.write(tmp_path, packed)
    parts = load_emoji(tmp_path)
    index = load_emoji_index(tmp_path)
    assert index.classes == ("animal-bug", "arrow", "face-sleepy")
    samples = [*index.train, *index.test]
    # Without the class of three and the four parts.
    assert sorted(map(number, samples)) == list(range(19))
    for (x, y), part, counts in zip(
        parts, index[1:], ([3, 7, 3], [2, 3, 1]), strict=True
    ):
        assert list(x) == ["image", "keywords"]
        assert np.bincount(y).tolist() == counts
        assert y.tolist() == [emoji.label for emoji in part]
        assert y.dtype == np.int32
        assert x["image"].shape == (len(y), 32, 32, 3)
        assert {v.dtype for v in x.values()} == {np.dtype("float32")}
        for image, emoji in zip(x["image"], part, strict=True):
            entry = packages.index[number(emoji)]
            assert emoji.hexcode == entry["unified"]
            assert index.classes[emoji.label] == entry["subcategory"]
            assert (
                list(emoji.keywords)
                == (packages.keywords[number(emoji)]["tags"])
            )
            expected = np.array(colour(number(emoji))) / 255
            np.testing.assert_allclose(
                image, np.broadcast_to(expected, image.shape), atol=1e-6
            )


def test_keywords_are_those_of_scikit_learn_on_the_training_part(
    tmp_path, packages
):
    packages.keywords[2]["tags"] = ["twice", "once", "twice"]
    packages.write(tmp_path)
    (x_train, _), (x_test, _) = load_emoji(tmp_path)
    index = load_emoji_index(tmp_path)
    reference = TfidfVectorizer(analyzer=lambda emoji: emoji.keywords)
    train = reference.fit_transform(index.train).toarray()
    np.testing.assert_allclose(x_train["keywords"], train, atol=1e-6)
    test = reference.transform(index.test).toarray()
    np.testing.assert_allclose(x_test["keywords"], test, atol=1e-6)
    assert not set(reference.vocabulary_) & {
        f"only {number(emoji)}" for emoji in index.test
    }


def test_emoji_without_known_keywords_have_zeros(tmp_path, packages):
    test = load_emoji_index(packages.write(tmp_path)).test
    no_tags, no_entry, unknown = map(number, test[:3])
    del packages.keywords[no_tags]["tags"]
    packages.keywords[unknown]["tags"] = ["never seen in training"]
    del packages.keywords[no_entry]
    packages.write(tmp_path)
    _, (x_test, _) = load_emoji(tmp_path)
    rows = x_test["keywords"]
    assert not rows[:3].any()
    np.testing.assert_allclose(np.linalg.norm(rows[3:], axis=1), 1, rtol=1e-6)
    assert [e.keywords for e in load_emoji_index(tmp_path).test[:3]] == [
        (),
        (),
        ("never seen in training",),
    ]


def test_pictures_of_every_mode_are_on_white_ground(tmp_path, packages):
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 64, 32))
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    grey = Image.new("L", (64, 64), 51)
    drawn = {
        "RGBA": Image.merge(
            "RGBA", [*Image.new("RGB", half.size).split(), half]
        ),
        "LA": Image.merge("LA", [grey, half]),
        "L": grey,
        "P": palette,
    }
    for name, image in zip(packages.pictures, drawn.values(), strict=False):
        packages.pictures[name] = png(image)
    packages.write(tmp_path)

    parts = load_emoji(tmp_path, size=2)
    index = load_emoji_index(tmp_path)
    images = {
        number(emoji): image
        for (x, _), part in zip(parts, index[1:], strict=True)
        for emoji, image in zip(part, x["image"], strict=True)
    }
    upper = {"RGBA": [0] * 3, "LA": [0.2] * 3, "L": [0.2] * 3, "P": [1, 0, 0]}
    lower = {**upper, "RGBA": [1] * 3, "LA": [1] * 3}
    for place, mode in enumerate(drawn):
        assert images[place].shape == (2, 2, 3)
        # What is scaled mixes a little of both halves.
        for row, expected in ((0, upper[mode]), (1, lower[mode])):
            np.testing.assert_allclose(
                images[place][row], [expected, expected], atol=0.15
            )


def test_the_seed_decides_what_is_held_out(tmp_path, packages):
    packages.write(tmp_path)
    first, again, other = (load_emoji_index(tmp_path, s) for s in (0, 0, 1))
    assert first == again
    assert set(first.test) != set(other.test)
    # The loader follows.
    _, (_, y_test) = load_emoji(tmp_path, seed=1)
    assert y_test.tolist() == [emoji.label for emoji in other.test]


def test_what_has_no_picture_is_left_out(tmp_path, packages):
    packages.index[5]["has_img_google"] = False
    packages.write(tmp_path)
    index = load_emoji_index(tmp_path)
    assert 5 not in map(number, index.train + index.test)
    assert len(index.train + index.test) == 18


@pytest.mark.parametrize("packed", [True, False])
def test_a_picture_that_is_missing_is_named(tmp_path, packages, packed):
    del packages.pictures["img/google/64/1f604.png"]
    packages.write(tmp_path, packed)
    with pytest.raises(
        FileNotFoundError,
        match=r"emoji-datasource-google.*` lacks `img/google/64/1f604\.png`",
    ):
        load_emoji(tmp_path)


@pytest.mark.parametrize("kind", ["text", "cut", "flipped", "GIF", "size"])
def test_a_picture_that_is_damaged_is_named(tmp_path, packages, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), "uint8")
    content = png(Image.fromarray(noise))
    if kind == "text":
        content = b"no picture"
    elif kind == "cut":
        content = content[:3000]
    elif kind == "flipped":
        content = content[:3000] + b"\0" * 30 + content[3030:]
    elif kind == "size":
        content = png(Image.new("RGBA", (64, 65)))
    else:
        file = io.BytesIO()
        Image.new("P", (64, 64)).save(file, "GIF")
        content = file.getvalue()
    packages.pictures["img/google/64/1f604.png"] = content
    packages.write(tmp_path)
    with pytest.raises(ValueError, match=r"1f604\.png` must be a PNG file"):
        load_emoji(tmp_path)


@pytest.mark.parametrize(
    "hexcode",
    ["../../../../secret", "1F600/../../../secret", "1f600", "", None],
)
def test_code_points_cannot_be_a_path(tmp_path, packages, hexcode):
    packages.index[0]["unified"] = hexcode
    packages.write(tmp_path, packed=False)
    with pytest.raises(ValueError, match=r"emoji\.json` must have `unified`"):
        load_emoji(tmp_path)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("emoji.json", b'[{"unified": ', "no JSON"),
        ("emoji.json", b"\xff\xfe\xff", "no JSON"),
        ("emoji.json", b"{}", "list of objects"),
        ("emoji.json", b"[1]", "list of objects"),
        ("emoji.json", b'[{"unified": "1F600"}]', "short_name"),
        ("en/data.json", b"", "no JSON"),
        ("en/data.json", b'[{"tags": ["a"]}]', "hexcode=None"),
        ("en/data.json", b'[{"hexcode": "1F600", "tags": "a"}]', "tags='a'"),
        ("en/data.json", b'[{"hexcode": "1F600", "tags": [1]}]', r"\[1\]"),
    ],
)
def test_lists_that_are_damaged_are_named(
    tmp_path, packages, file, content, message
):
    packages.write(tmp_path, packed=False)
    (path,) = (path for path in tmp_path.glob(f"*/{file}"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"`{path}`.*{message}"):
        load_emoji_index(tmp_path)


def test_lists_of_nothing_are_refused(tmp_path, packages):
    keywords, packages.keywords = packages.keywords, []
    packages.write(tmp_path)
    with pytest.raises(ValueError, match="keywords of 0 emoji"):
        load_emoji_index(tmp_path)
    packages.keywords, packages.index = keywords, packages.index[:3]
    packages.write(tmp_path)
    with pytest.raises(ValueError, match="3 pictures"):
        load_emoji_index(tmp_path)


@pytest.mark.parametrize("name", ["emoji-datasource-google", "emojibase-data"])
def test_a_package_that_is_missing_comes_with_the_command(
    tmp_path, packages, name
):
    packages.write(tmp_path)
    (tmp_path / f"{name}-16.0.0.tgz").unlink()
    with pytest.raises(FileNotFoundError, match=f"`{name}`. Run `npm pack"):
        load_emoji(tmp_path)


def test_pictures_need_pillow(tmp_path, packages, monkeypatch):
    packages.write(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[images\]"):
        load_emoji(tmp_path)
    assert len(load_emoji_index(tmp_path).train) == 13


@pytest.mark.parametrize(
    "size, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError)]
)
def test_bad_size(tmp_path, size, error):
    with pytest.raises(error, match="`size` must be a positive integer"):
        load_emoji(tmp_path, size=size)
