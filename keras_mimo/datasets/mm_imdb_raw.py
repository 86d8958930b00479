import json
import re
import warnings

import numpy as np

from keras_mimo.datasets.decode_cache import DecodeCache
from keras_mimo.datasets.pictures import open_picture
from keras_mimo.datasets.pictures import pillow
from keras_mimo.datasets.token_ids import check_tokenize
from keras_mimo.datasets.token_ids import token_ids

_PARTS = ("train", "dev", "test")
# It becomes the name of a file.
_ID = re.compile(r"\w+")


def load_raw(folder, genres, tokenize, length, image_size, incomplete, cache):
    """Reads the raw folder; the arguments are as of `load_mm_imdb`.

    Returns:
        List of tuples of a function of the number of a sample, and labels.
    """
    if tokenize is None:
        raise ValueError(
            "`tokenize` must be a function from a plot to a sequence of "
            f"integers where `path` is a folder. Received: path={folder}, "
            "tokenize=None"
        )
    check_tokenize(tokenize)
    pillow()
    cache = DecodeCache(cache)
    split = _split(folder)
    data = folder / "dataset"
    if not data.is_dir():
        raise FileNotFoundError(
            f"There is no `{data}`. Expected `split.json` and the folder "
            f"`dataset` in `{folder}`."
        )
    covers = {file.name for file in data.glob("*.jpeg")}
    places = {genre: place for place, genre in enumerate(genres)}
    parts = []
    for part in _PARTS:
        plots, paths, labels = [], [], []
        for film in split[part]:
            named, plot = _film(data / f"{film}.json")
            known = [places[genre] for genre in named if genre in places]
            cover = f"{film}.jpeg" if f"{film}.jpeg" in covers else None
            has = [bool(plot), cover is not None]
            if known and (all(has) if incomplete == "drop" else any(has)):
                plots.append(plot)
                paths.append(cover and data / cover)
                labels.append(np.isin(np.arange(len(genres)), known))
        if not labels:
            raise ValueError(
                f"`{folder}` must have a film with a genre, a plot and a cover "
                f'in the part "{part}". Received: {len(split[part])} films '
                "without"
            )
        lost = len(split[part]) - len(labels)
        if lost:
            warnings.warn(
                f'Of {len(split[part])} films in the part "{part}" of '
                f"`{folder}`, {lost} are left out, which lack a genre, a plot "
                "or a cover.",
                stacklevel=3,
            )
        texts = token_ids(tokenize, plots, length)
        reader = _Reader(paths, texts, image_size, cache)
        parts.append((reader, np.array(labels, "float32")))
    return parts


def _json(path):
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no `{path}`. Expected `split.json` and "
            "`dataset/<id>.json` for each of its films."
        ) from error
    # Of text or of JSON.
    except ValueError as error:
        raise ValueError(f"`{path}` is no JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"`{path}` must be an object. Received: {type(content)}"
        )
    return content


def _split(folder):
    path = folder / "split.json"
    split = _json(path)
    for part in _PARTS:
        films = split.get(part)
        if not _are_strings(films) or not all(map(_ID.fullmatch, films)):
            raise ValueError(
                f"`{path}` must have a list of the ids of films for each of "
                f'{_PARTS}. Received: "{part}" of type {type(films)}'
            )
    return split


def _film(path):
    """The genres and the longest plot, which may be none."""
    film = _json(path)
    genres = film.get("genres") or []
    plots = film.get("plot") or []
    if not _are_strings(genres) or not _are_strings(plots):
        raise ValueError(
            f"`{path}` must have lists of strings in `genres` and `plot`. "
            f"Received: genres={genres!r}, plot={plots!r}"
        )
    return genres, max(plots, key=len, default="").strip()


def _are_strings(values):
    return isinstance(values, list) and all(
        isinstance(value, str) for value in values
    )


class _Reader:
    def __init__(self, paths, texts, image_size, cache):
        self.paths = paths
        self.texts = texts
        self.image_size = image_size
        self.cache = cache

    def __call__(self, index):
        return {"image": self._image(index), "text": self.texts[index]}

    def _image(self, index):
        path, size = self.paths[index], self.image_size
        if path is None:
            return np.full((*size, 3), np.nan, "float32")
        cover = self.cache.get(
            [path], f"{__name__} {size}", lambda: _cover(path, size)
        )
        return cover.astype("float32") / 255


def _cover(path, size):
    """Cut in the middle to the shape, and scaled."""
    from PIL import ImageOps

    height, width = size
    # Some are greyscale.
    image = open_picture(path)
    lanczos = pillow().Resampling.LANCZOS
    return np.asarray(ImageOps.fit(image, (width, height), lanczos))
