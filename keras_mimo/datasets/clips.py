"""Clips of which there are a sound file and a folder of frames."""

import dataclasses
import os
import typing
import warnings
from pathlib import Path

import numpy as np

from keras_mimo.datasets import pictures
from keras_mimo.datasets import sound
from keras_mimo.datasets.decode_cache import DecodeCache
from keras_mimo.datasets.samples import Samples
from keras_mimo.datasets.stratified import split_off
from keras_mimo.utils.arguments import check_units

_INCOMPLETE = ("drop", "mark")


class Clip(typing.NamedTuple):
    """A clip of a list.

    Args:
        sound: Path of the `.wav` file; `None` if there is none.
        pictures: Folder of frames; `None` if there is none, or too few in it.
        label: Integer.
    """

    sound: str | None
    pictures: str | None
    label: int


@dataclasses.dataclass(frozen=True)
class ClipFormat:
    """How clips of a data set are read.

    Args:
        spectrogram: Function from the path of a `.wav` file to a `float32`
            array, importable by its name.
        shape: Shape of what it returns.
        choose: Function from how many frames there are, and how many are
            wanted, to a list of indices.
        least: Integer: a clip with fewer frames counts as one without. `None`:
            as many as are wanted.
    """

    spectrogram: typing.Callable
    shape: tuple
    choose: typing.Callable
    least: int | None = None


@dataclasses.dataclass(frozen=True)
class ReadClip:
    """Function from the number of a clip to its modalities, picklable."""

    clips: list
    form: ClipFormat
    frames: int
    cache: DecodeCache

    def __call__(self, index):
        clip = self.clips[index]
        return {"audio": self._audio(clip), "image": self._image(clip)}

    def _audio(self, clip):
        if clip.sound is None:
            return np.full((*self.form.shape, 1), np.nan, "float32")
        make = self.form.spectrogram
        spectrogram = self.cache.get(
            [clip.sound],
            f"{make.__module__}.{make.__qualname__}",
            lambda: make(clip.sound),
        )
        return spectrogram[..., None]

    def _image(self, clip):
        if clip.pictures is None:
            shape = (self.frames, pictures.SIZE, pictures.SIZE, 3)
            return np.full(shape, np.nan, "float32")
        names = pictures.list_pictures(clip.pictures)
        chosen = [
            os.path.join(clip.pictures, names[i])
            for i in self.form.choose(len(names), self.frames)
        ]
        stack = self.cache.get(
            chosen,
            f"{pictures.SIZE}",
            lambda: np.stack([pictures.read_picture(path) for path in chosen]),
        )
        return pictures.normalize(stack)


def check_folder(folder, *names):
    """Raises `FileNotFoundError` unless all names are in the folder."""
    for name in names:
        path = Path(folder) / name
        if not path.exists():
            raise FileNotFoundError(
                f"`{folder}` must have {', '.join(f'`{n}`' for n in names)}. "
                f"There is no `{path}`."
            )


def read_lines(path):
    """The lines of a list that are not empty, numbered from 1."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` must be text: {error}") from error
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"`{path}` must name clips. Received: an empty file")
    return lines


def check_name(name, path, number):
    """The name of a clip, which must not lead out of the folder."""
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise ValueError(
            f"Line {number} of `{path}` must begin with the name of a clip. "
            f"Received: {name!r}"
        )
    return name


def find_clips(listed, list_file, form, frames, incomplete):
    """Which clips of a list there are.

    Args:
        listed: List of `Clip` with the paths where files should be.
        list_file: Path of the list, for messages.
        form: `ClipFormat`.
        frames: Integer.
        incomplete: String, as for the loaders.

    Returns:
        List of `Clip`.

    Raises:
        ValueError: If there is none.
    """
    found, lost = [], []
    least = form.least or frames
    for clip in listed:
        there = Clip(
            clip.sound if os.path.isfile(clip.sound) else None,
            clip.pictures
            if len(pictures.list_pictures(clip.pictures)) >= least
            else None,
            clip.label,
        )
        if there.sound is None or there.pictures is None:
            lost.append(clip.sound if there.sound is None else clip.pictures)
            drop = incomplete == "drop" or there[:2] == (None, None)
            if drop:
                continue
        found.append(there)
    if not found:
        raise ValueError(
            f"Of the {len(listed)} clips in `{list_file}` there must be a "
            f".wav file and a folder of at least {least} pictures. Received: "
            f"none that is complete; the first to lack is `{lost[0]}`"
        )
    if lost:
        warnings.warn(
            f"Of {len(listed)} clips in `{list_file}`, {len(lost)} lack the "
            f".wav file or a folder of at least {least} pictures, such as "
            f"`{lost[0]}`; {len(listed) - len(found)} are left out.",
            stacklevel=3,
        )
    return found


class ClipLoader:
    """Checks and holds the arguments that all loaders of clips have.

    Args:
        form: `ClipFormat`.
        frames: As for the loaders, like the arguments that follow.
        incomplete: String.
        cache: Folder or `None`.
        batch_size: Positive integer.
        seed: Integer.
        kwargs: Dict.
    """

    def __init__(
        self, form, frames, incomplete, cache, batch_size, seed, kwargs
    ):
        self.form = form
        self.frames = check_units("frames", frames)
        if incomplete not in _INCOMPLETE:
            raise ValueError(
                f"`incomplete` must be one of {_INCOMPLETE}. "
                f"Received: incomplete={incomplete!r}"
            )
        self.incomplete = incomplete
        pictures.pillow()
        sound.scipy_signal()
        self.cache = DecodeCache(cache)
        self.options = {"batch_size": batch_size, "seed": seed, **kwargs}

    def find(self, listed, list_file):
        """The clips of a list that there are."""
        return find_clips(
            listed, list_file, self.form, self.frames, self.incomplete
        )

    def samples(self, clips, shuffle=False):
        """`Samples` of clips."""
        return Samples(
            ReadClip(clips, self.form, self.frames, self.cache),
            np.array([clip.label for clip in clips], "int32"),
            shuffle=shuffle,
            **self.options,
        )

    def split(self, clips, share):
        """Training and validation `Samples`, by the seed."""
        if not 0 < share < 1:
            raise ValueError(
                "`validation_split` must be between 0 and 1. "
                f"Received: validation_split={share}"
            )
        labels = [clip.label for clip in clips]
        (rest, _), (part, _) = split_off(
            np.arange(len(clips)), labels, share, self.options["seed"]
        )
        if not len(part):
            raise ValueError(
                "`validation_split` must leave a clip of some class. Received: "
                f"validation_split={share} of {len(clips)} clips"
            )
        return (
            self.samples([clips[i] for i in rest], shuffle=True),
            self.samples([clips[i] for i in part]),
        )
