from pathlib import Path

import numpy as np

from keras_mimo.datasets import clips
from keras_mimo.datasets import pictures
from keras_mimo.datasets import sound

_LISTS = ("trainSet.txt", "valSet.txt", "testSet.txt")
_RATE = 22050
_SAMPLES = 160000


def load_ave(
    folder,
    frames=3,
    incomplete="drop",
    cache=None,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads AVE, ten seconds of events that are seen and heard.

    28 classes such as church bells or frying, in 4143 clips of AudioSet, in
    lists of training (3339), validation (402) and test clips (402).

    The data is neither downloaded nor bundled. The clips and their lists are
    at https://github.com/YapengTian/AVE-ECCV18; scripts of
    https://github.com/GeWu-Lab/OGM-GE_CVPR2022 extract sound (16 kHz) and
    frames (one a second). `folder` is laid out as there:

    ```
    trainSet.txt, valSet.txt, testSet.txt
                         lines such as Church bell&RUhOCu3LNXM&good&0&10
    audio/RUhOCu3LNXM.wav
    visual/RUhOCu3LNXM/frame_00001.jpg ...
    ```

    Of a clip that a list has twice, the first line counts. SciPy and Pillow,
    which read the files, are installed by
    `pip install keras-mimo[sound,images]`.

    **License**: that of the authors' page for the lists; the clips belong to
    those who put them on YouTube.

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
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides the orders of the training
            part. Defaults to `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `Samples`. `train` alone is
        shuffled.

        **Inputs**: dict of `"audio"`, `float32` of shape `(257, 1004, 1)`, and
        `"image"`, `float32` of shape `(frames, 224, 224, 3)`.

        **Labels**: `int32`, the places of the classes of all lists in
        alphabetical order.

        The sound is mixed to one channel, resampled to 22,050 Hz, repeated ten
        times, cut to 160,000 samples (7.3 seconds) and clipped to [-1, 1]:
        `log(spectrogram + 1e-7)` of `scipy.signal.spectrogram` with windows of
        512 that share 353, minus its mean, divided by its deviation. The
        pictures are the first of `frames` equal parts of the clip, scaled to
        224 x 224 and normalised by the mean and the deviation of ImageNet's.

    Raises:
        FileNotFoundError: If a list or a folder is missing.
        ImportError: If SciPy or Pillow is not installed.
        TypeError: If a size is no integer.
        ValueError: If an argument or a list is wrong, or no clip is complete;
            later, if a file that is read is damaged, or a clip is
            shorter than .73 seconds.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_ave(
        "AVE", cache="AVE/decoded", workers=4
    )
    ```

    Reference: Tian et al., Audio-Visual Event Localization in Unconstrained
    Videos, ECCV 2018. What is read, and how: OGM-GE
    (`pre-processing/obtain_audio_spectrogram.py` and `dataset/dataset.py` of
    its code).
    """
    folder = Path(folder)
    clips.check_folder(folder, *_LISTS, "audio", "visual")
    form = clips.ClipFormat(_spectrogram, (257, 1004), pictures.starts, least=1)
    loader = clips.ClipLoader(
        form, frames, incomplete, cache, batch_size, seed, kwargs
    )
    lines = [_lines(folder / name) for name in _LISTS]
    classes = sorted({name for part in lines for name in part.values()})
    parts = []
    for part, list_file in zip(lines, _LISTS, strict=True):
        listed = [
            clips.Clip(
                str(folder / "audio" / f"{name}.wav"),
                str(folder / "visual" / name),
                classes.index(label),
            )
            for name, label in part.items()
        ]
        parts.append(loader.find(listed, folder / list_file))
    train, validation, test = parts
    return (
        loader.samples(train, shuffle=True),
        loader.samples(validation),
        loader.samples(test),
    )


def _lines(path):
    """Classes by the names of clips."""
    labels = {}
    for number, line in clips.read_lines(path):
        label, *others = line.split("&")
        if not label or len(others) != 4:
            raise ValueError(
                f"Line {number} of `{path}` must be a class, a clip, its "
                "quality, its start and its end, split by `&`. "
                f"Received: {line!r}"
            )
        labels.setdefault(clips.check_name(others[0], path, number), label)
    return labels


def _spectrogram(path):
    samples = sound.read_mono(path, _RATE)
    samples = np.tile(samples, 10)[:_SAMPLES]
    if len(samples) < _SAMPLES:
        raise ValueError(
            f"`{path}` must last {_SAMPLES / 10 / _RATE:.2f} seconds at least. "
            f"Received: {len(samples) / 10 / _RATE:.2f} seconds"
        )
    *_, power = sound.scipy_signal().spectrogram(
        np.clip(samples, -1, 1), _RATE, nperseg=512, noverlap=353
    )
    power = np.log(power + 1e-7)
    return ((power - power.mean()) / (power.std() + 1e-9)).astype("float32")
