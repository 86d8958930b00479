import csv
from pathlib import Path

import numpy as np

from keras_mimo.datasets import clips
from keras_mimo.datasets import pictures
from keras_mimo.datasets import sound

_LIST = "vggsound.csv"
# Folders of sound and of frames by part.
_FOLDERS = {
    part: (
        f"{part}-audios/{part}-set",
        f"{part}-videos/{part}-set-img/Image-01-FPS",
    )
    for part in ("train", "test")
}
_RATE = 16000
_SECONDS = 5


def load_vggsound(
    folder,
    frames=3,
    incomplete="drop",
    cache=None,
    validation_split=0.1,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads VGGSound, ten seconds in which what is heard can be seen.

    309 classes such as people marching or a cat purring, in some 200,000 clips
    of YouTube.

    The data is neither downloaded nor bundled. The list is at
    https://www.robots.ox.ac.uk/~vgg/data/vggsound; scripts of
    https://github.com/GeWu-Lab/OGM-GE_CVPR2022 extract sound (16 kHz) and
    frames (one a second). `folder` is laid out as there:

    ```
    vggsound.csv         lines such as ---g-f_I2yQ,1,"people marching",test
    train-audios/train-set/---g-f_I2yQ_1.wav
    train-videos/train-set-img/Image-01-FPS/---g-f_I2yQ_1.mp4/00000.jpg ...
    test-audios/test-set/..., test-videos/test-set-img/Image-01-FPS/...
    ```

    A folder of frames may do without the `.mp4` of its name. SciPy and Pillow,
    which read the files, are installed by
    `pip install keras-mimo[sound,images]`.

    **License**: the list is under CC BY 4.0; the clips belong to those who put
    them on YouTube.

    Args:
        folder: Folder with the above.
        frames: Positive integer, how many pictures of each clip are taken.
            Defaults to `3`.
        incomplete: `"drop"` leaves out the clips that lack a modality, as the
            papers do; `"mark"` keeps them, with NaN for what is missing, as
            `late_fusion(missing=True)` takes it. Either warns, with how many
            and which first. Defaults to `"drop"`.
        cache: Folder in which what has been decoded is kept, so that it is
            decoded once only; any number of runs may share it. Defaults to
            `None`: nothing is kept.
        validation_split: Float in `(0, 1)`, the share of each class that is
            split off the training part. Defaults to `0.1`.
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides what is split off, and the orders of the training
            part. Defaults to `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `Samples`. There is no list of
        validation clips: they are split off the training part. `train` alone
        is shuffled.

        **Inputs**: dict of `"audio"`, `float32` of shape `(129, 626, 1)`, and
        `"image"`, `float32` of shape `(frames, 224, 224, 3)`.

        **Labels**: `int32`, the places of the classes of the list in
        alphabetical order.

        The sound is mixed to one channel, resampled to 16 kHz, doubled until it
        lasts ten seconds, and clipped to [-1, 1]: `log(abs(stft) + 1e-7)` with
        windows of 256 every 128, of the five seconds from 2.5 to 7.5. (The
        papers draw where they begin anew each time, in the test as well.) Of
        `frames` equal parts of the clip a picture before the middle is taken
        (for `3` of ten, the first, the fourth and the seventh), of six or fewer
        the first each time, scaled to 224 x 224 and normalised by the mean and
        the deviation of ImageNet's. A clip of fewer than four pictures counts
        as one without.

    Raises:
        FileNotFoundError: If the list or a folder is missing.
        ImportError: If SciPy or Pillow is not installed.
        TypeError: If a size is no integer.
        ValueError: If an argument or a list is wrong, or no clip is complete;
            later, if a file that is read is damaged or empty.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_vggsound(
        "vggsound", cache="vggsound/decoded", batch_size=64, workers=8
    )
    ```

    Reference: Chen et al., VGGSound: A Large-Scale Audio-Visual Dataset, ICASSP
    2020. What is read, and how: OGM-GE (`dataset/VGGSoundDataset.py` of its
    code); which frames: BalanceBenchmark (`VGG_dataset.py`).
    """
    folder = Path(folder)
    clips.check_folder(folder, _LIST, *_FOLDERS["train"], *_FOLDERS["test"])
    form = clips.ClipFormat(
        _spectrogram, (129, 626), pictures.numbered, least=4
    )
    loader = clips.ClipLoader(
        form, frames, incomplete, cache, batch_size, seed, kwargs
    )
    listed = _listed(folder)
    train, test = (
        loader.find(listed[part], folder / _LIST) for part in _FOLDERS
    )
    return *loader.split(train, validation_split), loader.samples(test)


def _listed(folder):
    """Lists of clips by part."""
    path = folder / _LIST
    rows = []
    for number, line in clips.read_lines(path):
        row = next(csv.reader([line]))
        if len(row) != 4 or not row[1].isdecimal() or row[3] not in _FOLDERS:
            raise ValueError(
                f"Line {number} of `{path}` must be the name of a clip, its "
                "first second, its class and `train` or `test`, split by "
                f"commas. Received: {line!r}"
            )
        clips.check_name(row[0], path, number)
        rows.append(row)
    labels = {name: i for i, name in enumerate(sorted({r[2] for r in rows}))}
    listed = {part: [] for part in _FOLDERS}
    for name, second, label, part in rows:
        sounds, images = (folder / path for path in _FOLDERS[part])
        image = images / f"{name}_{second}.mp4"
        if not image.exists():
            image = images / f"{name}_{second}"
        listed[part].append(
            clips.Clip(
                str(sounds / f"{name}_{second}.wav"), str(image), labels[label]
            )
        )
    for part, found in listed.items():
        if not found:
            raise ValueError(
                f"`{path}` must have clips of both parts. Received: none of "
                f"{part!r}"
            )
    return listed


def _spectrogram(path):
    samples = sound.read_mono(path, _RATE)
    while len(samples) < 2 * _SECONDS * _RATE:
        samples = np.tile(samples, 2)
    start = _SECONDS * _RATE // 2
    samples = samples[start : start + _SECONDS * _RATE]
    return sound.log_stft(np.clip(samples, -1, 1), 256, 128)
