"""Pictures as torchvision makes them, and which frames of a clip are taken."""

import os

import numpy as np

SIZE = 224
# Of ImageNet's pictures.
_MEAN = np.array([0.485, 0.456, 0.406], "float32")
_STD = np.array([0.229, 0.224, 0.225], "float32")
_ENDINGS = (".jpg", ".jpeg", ".png")


def pillow():
    """The module `PIL.Image`.

    Raises:
        ImportError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Loaders of pictures need Pillow. Install it with "
            "`pip install keras-mimo[images]`."
        ) from error
    return Image


def list_pictures(folder):
    """The names of the pictures in a folder, sorted; `[]` if there is none."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in names if name.lower().endswith(_ENDINGS))


def open_picture(path):
    """A picture of any size and mode, in colour.

    Args:
        path: Path of a JPEG or PNG file.

    Returns:
        `PIL.Image.Image` of the mode "RGB".

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JPEG or PNG file, or is damaged.
    """
    Image = pillow()
    try:
        with Image.open(path, formats=["JPEG", "PNG"]) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise
    # Pillow raises SyntaxError for damaged chunks.
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(
            f"`{path}` must be a JPEG or PNG file. Received: {error}"
        ) from error


def read_picture(path):
    """A picture as from `open_picture`, scaled to a square.

    As `Resize(size=(224, 224))` of torchvision does, proportions change.

    Args:
        path: As for `open_picture`.

    Returns:
        `uint8` array of shape `(224, 224, 3)`.
    """
    bilinear = pillow().Resampling.BILINEAR
    return np.asarray(open_picture(path).resize((SIZE, SIZE), bilinear))


def normalize(pictures):
    """`ToTensor` and `Normalize` of torchvision, channels last, `float32`."""
    return (pictures.astype("float32") / 255 - _MEAN) / _STD


def middles(count, frames):
    """The middle of each of `frames` equal parts: BalanceBenchmark's CREMA-D.

    Args:
        count: Integer, how many pictures there are, `frames` at least.
        frames: Integer, how many are taken.

    Returns:
        List of indices.
    """
    part = count // frames
    return [i * part + part // 2 for i in range(frames)]


def starts(count, frames):
    """The first of each of `frames` equal parts: OGM-GE's AVE."""
    return [i * (count // frames) for i in range(frames)]


def numbered(count, frames):
    """Frames as BalanceBenchmark has them of Kinetics-Sounds and VGGSound.

    It counts frames from 1, and has of six or fewer the first only.
    """
    if count <= 6:
        return [0] * frames
    part = count // frames
    return [i * part + max(part // 2, 1) - 1 for i in range(frames)]
