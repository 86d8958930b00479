import collections
import io
import json
import re
import typing

import numpy as np

from keras_mimo.datasets.packages import Package
from keras_mimo.datasets.stratified import split_off
from keras_mimo.utils.arguments import check_units

_PICTURES = "emoji-datasource-google"
_INDEX = "emoji.json"
_KEYWORDS = "emojibase-data"
_TAGS = "en/data.json"
# Smaller classes could not be split.
_MIN_COUNT = 4
_HEXCODE = re.compile(r"[0-9A-F]+(-[0-9A-F]+)*")


class Emoji(typing.NamedTuple):
    """A sample of `load_emoji`.

    Args:
        hexcode: String, its code points, such as `"1F468-200D-1F680"`.
        name: String, such as `"male-astronaut"`.
        keywords: Tuple of strings, distinct.
        label: Integer, the place of its class.
    """

    hexcode: str
    name: str
    keywords: tuple
    label: int


class EmojiIndex(typing.NamedTuple):
    """What `load_emoji` loads, by name.

    Args:
        classes: Tuple of strings, the names of labels.
        train: List of `Emoji`, in the order of the training samples.
        test: List of `Emoji`, in the order of the test samples.
    """

    classes: tuple
    train: list
    test: list


def load_emoji(folder, size=32, seed=0):
    """Loads emoji as pictures and keywords: image, text and a long tail.

    1883 emoji, in none but the default skin tone, of 89 classes such as
    `country-flag` (259), `animal-mammal` (66) and `face-sleepy` (6), which are
    the subcategories of Unicode that have at least four. 30 % of each are held
    out. `load_emoji_index` names classes and samples.

    The data is that of two npm packages, neither downloaded nor bundled. In
    `folder`, run
    `npm pack emoji-datasource-google@16.0.0 emojibase-data@17.0.0`. The
    archives are read as they are. Pillow, which decodes the pictures, is
    installed by `pip install keras-mimo[images]`.

    **License**: the pictures are Google's Noto Emoji, under the Apache license
    2.0; `emoji-datasource-google` (its index) and `emojibase-data` (the
    keywords) are under the MIT license, by Cal Henderson and Copyright (c)
    2017-2019 Miles Johnson.

    Args:
        folder: Folder with both packages, each either as the `.tgz` file or
            unpacked into a folder of its name.
        size: Positive integer, the height and width of images. Those of the
            package are 64 pixels high. Defaults to `32`.
        seed: Integer, decides which samples are held out. Defaults to `0`.

    Returns:
        Tuple of dicts and NumPy arrays:
        `(x_train, y_train), (x_test, y_test)`.

        **`x_train`, `x_test`**: dicts with `"image"`, a `float32` array of
        shape `(n, size, size, 3)` with values from 0 to 1, on white ground;
        and `"keywords"`, a `float32` array of shape `(n, vocabulary)`: TF-IDF
        with rows of length 1, a column for each keyword of the training
        samples in alphabetical order. An emoji with none of those has zeros.

        **`y_train`, `y_test`**: `int32` arrays of shape `(n,)`, the classes in
        alphabetical order.

    Raises:
        FileNotFoundError: If a package or a file in it is missing.
        ImportError: If Pillow is not installed.
        TypeError: If `size` is no integer.
        ValueError: If `size` is not positive, a file is damaged, or a package
            is there twice.

    Example:

    ```python
    train, test = keras_mimo.datasets.load_emoji("downloads")
    x_train, y_train = train
    assert x_train["image"].shape == (1314, 32, 32, 3)
    counts = keras_mimo.datasets.class_counts(y_train)
    ```
    """
    size = check_units("size", size)
    decode = _decoder()
    _, train, test = load_emoji_index(folder, seed)

    package = _package(folder, _PICTURES)
    files = [_file(emoji) for emoji in train + test]
    contents = package.read(files)
    images = np.stack(
        [decode(contents[file], package.path / file, size) for file in files]
    )
    keywords = _tf_idf(train, test)
    parts = []
    for part, rows in (
        (train, slice(len(train))),
        (test, slice(len(train), None)),
    ):
        x = {"image": images[rows], "keywords": keywords[rows]}
        parts.append((x, np.array([emoji.label for emoji in part], "int32")))
    return tuple(parts)


def load_emoji_index(folder, seed=0):
    """Names the classes and the samples of `load_emoji`, for drawing them.

    It reads no picture, and needs no Pillow. The keywords are here as strings,
    for those who want them in another form than that of `load_emoji`.

    Args:
        folder: As for `load_emoji`.
        seed: As for `load_emoji`. Defaults to `0`.

    Returns:
        Named tuple `(classes, train, test)`: the names of labels, and for each
        part a list of named tuples `(hexcode, name, keywords, label)` in the
        order of the samples.

    Raises:
        FileNotFoundError: If a package or a file in it is missing.
        ValueError: If a file is damaged, or a package is there twice.

    Example:

    ```python
    index = keras_mimo.datasets.load_emoji_index("downloads")
    print(index.classes[index.test[0].label], index.test[0].keywords)
    ```
    """
    entries = _entries(_package(folder, _PICTURES))
    keywords = _keywords(_package(folder, _KEYWORDS))
    counts = collections.Counter(entry["subcategory"] for entry in entries)
    classes = sorted(c for c, count in counts.items() if count >= _MIN_COUNT)
    labels = {name: label for label, name in enumerate(classes)}
    samples = [
        Emoji(
            entry["unified"],
            entry["short_name"],
            keywords.get(_plain(entry["unified"]), ()),
            labels[entry["subcategory"]],
        )
        for entry in entries
        if entry["subcategory"] in labels
    ]
    if not any(sample.keywords for sample in samples):
        raise ValueError(
            f"`{folder}` must have pictures of {_MIN_COUNT} emoji of a class "
            f"and keywords of some. Received: {len(entries)} pictures, "
            f"keywords of {len(keywords)} emoji"
        )
    y = [sample.label for sample in samples]
    (train, _), (test, _) = split_off(np.arange(len(y)), y, 0.3, seed)
    return EmojiIndex(
        tuple(classes), [samples[i] for i in train], [samples[i] for i in test]
    )


def _package(folder, name):
    return Package(
        folder, name, f"npm pack {_PICTURES}@16.0.0 {_KEYWORDS}@17.0.0"
    )


def _entries(package):
    """The emoji that have a picture, without parts such as skin tones."""
    path = package.path / _INDEX
    entries = _json(package.read([_INDEX])[_INDEX], path)
    for entry in entries:
        texts = [
            entry.get(key)
            for key in ("unified", "short_name", "category", "subcategory")
        ]
        if not all(isinstance(text, str) for text in texts) or (
            # It becomes the name of a file.
            not _HEXCODE.fullmatch(texts[0])
        ):
            raise ValueError(
                f"`{path}` must have `unified` (code points), `short_name`, "
                "`category` and `subcategory` for each emoji. "
                f"Received: {texts}"
            )
    return [
        entry
        for entry in entries
        if entry["category"] != "Component" and entry.get("has_img_google")
    ]


def _keywords(package):
    path = package.path / _TAGS
    keywords = {}
    for entry in _json(package.read([_TAGS])[_TAGS], path):
        code, tags = entry.get("hexcode"), entry.get("tags") or []
        if not isinstance(code, str) or not _is_texts(tags):
            raise ValueError(
                f"`{path}` must have `hexcode` and a list `tags` for each "
                f"emoji. Received: hexcode={code!r}, tags={tags!r}"
            )
        keywords[_plain(code)] = tuple(dict.fromkeys(tags))
    return keywords


def _is_texts(tags):
    return isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)


def _json(content, path):
    """A list of dicts."""
    try:
        entries = json.loads(content)
    # Of text or of JSON.
    except ValueError as error:
        raise ValueError(f"`{path}` is no JSON file: {error}") from error
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) for entry in entries
    ):
        raise ValueError(f"`{path}` must be a list of objects.")
    return entries


def _plain(hexcode):
    """Code points without the sign for colour, which some lists leave out."""
    return "-".join(part for part in hexcode.split("-") if part != "FE0F")


def _file(emoji):
    return f"img/google/64/{emoji.hexcode.lower()}.png"


def _decoder():
    """A function from a PNG file to an array, by Pillow."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "`load_emoji` needs Pillow to decode pictures. Install it with "
            "`pip install keras-mimo[images]`."
        ) from error

    def decode(content, path, size):
        try:
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            # Before decoding: a damaged header may ask for any memory.
            if image.size != (64, 64):
                raise ValueError(f"a picture of {image.size} pixels")
            image = image.convert("RGBA")
        # Pillow raises SyntaxError for damaged chunks.
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"`{path}` must be a PNG file of 64 x 64 pixels. "
                f"Received: {error}"
            ) from error
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
        image = image.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image, "float32") / 255

    return decode


def _tf_idf(train, test):
    """Rows for both parts; what is known of keywords is known from `train`."""
    counts = collections.Counter(k for emoji in train for k in emoji.keywords)
    columns = {keyword: column for column, keyword in enumerate(sorted(counts))}
    rows = np.zeros((len(train) + len(test), len(columns)), "float32")
    for row, emoji in zip(rows, train + test, strict=True):
        for keyword in emoji.keywords:
            if keyword in columns:
                # Smoothed, as by an emoji that has each keyword.
                row[columns[keyword]] = 1 + np.log(
                    (1 + len(train)) / (1 + counts[keyword])
                )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=rows, where=lengths > 0)
