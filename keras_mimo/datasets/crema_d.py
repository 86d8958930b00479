import csv
from pathlib import Path

import numpy as np

from keras_mimo.datasets import clips
from keras_mimo.datasets import pictures
from keras_mimo.datasets import sound

CREMA_D_CLASSES = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
"""The emotions of `load_crema_d`, in the order of its labels."""
_RATE = 22050
_SECONDS = 3


def load_crema_d(
    folder,
    frames=1,
    incomplete="drop",
    cache=None,
    validation_split=0.1,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads CREMA-D, actors who speak with one of six emotions.

    91 actors say twelve sentences: 7442 clips of sound and picture, of six
    classes, named by `CREMA_D_CLASSES`. All actors are in both lists.

    The data is neither downloaded nor bundled. The clips are at
    https://github.com/CheyneyComputerScience/CREMA-D, the lists of training
    (6698) and test clips (744) in `data/CREMAD` of
    https://github.com/GeWu-Lab/OGM-GE_CVPR2022, with the scripts that extract
    frames. `folder` is laid out as there:

    ```
    train.csv, test.csv                lines such as 1001_IEO_NEU_XX,NEU
    AudioWAV/1001_IEO_NEU_XX.wav
    Image-01-FPS/1001_IEO_NEU_XX/*.jpg
    ```

    SciPy and Pillow, which read the files, are installed by
    `pip install keras-mimo[sound,images]`.

    **License**: Open Database License 1.0; its contents, Database Contents
    License 1.0.

    Args:
        folder: Folder with the above.
        frames: Positive integer, how many pictures of each clip are taken.
            Defaults to `1`.
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

        **Inputs**: dict of `"audio"`, `float32` of shape `(257, 188, 1)`, and
        `"image"`, `float32` of shape `(frames, 224, 224, 3)`.

        **Labels**: `int32`, the places of the classes.

        The sound is mixed to one channel, resampled to 22,050 Hz, repeated
        three times, cut to three seconds and clipped to [-1, 1]:
        `log(abs(stft) + 1e-7)` with windows of 512 every 353. The pictures are
        the middles of `frames` equal parts of the clip, scaled to 224 x 224 and
        normalised by the mean and the deviation of ImageNet's. (In training the
        papers also crop and mirror them, which layers of Keras do.)

    Raises:
        FileNotFoundError: If a list or a folder is missing.
        ImportError: If SciPy or Pillow is not installed.
        TypeError: If a size is no integer.
        ValueError: If an argument or a list is wrong, or no clip is complete;
            later, if a file that is read is damaged, or a clip is
            shorter than a second.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_crema_d(
        "CREMA-D", cache="CREMA-D/decoded", batch_size=64, workers=4
    )
    model.fit(train, validation_data=validation, epochs=100)
    ```

    Reference: Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors
    Dataset, 2014. What is read, and how: Peng et al., Balanced Multimodal
    Learning via On-the-fly Gradient Modulation, CVPR 2022
    (`dataset/CramedDataset.py` of its code); which frames: BalanceBenchmark
    (`cremad_dataset.py`).
    """
    folder = Path(folder)
    lists = ("train.csv", "test.csv")
    clips.check_folder(folder, *lists, "AudioWAV", "Image-01-FPS")
    form = clips.ClipFormat(_spectrogram, (257, 188), pictures.middles)
    loader = clips.ClipLoader(
        form, frames, incomplete, cache, batch_size, seed, kwargs
    )
    train, test = (
        loader.find(_listed(folder, name), folder / name) for name in lists
    )
    return *loader.split(train, validation_split), loader.samples(test)


def _listed(folder, list_file):
    path = folder / list_file
    listed = []
    for number, line in clips.read_lines(path):
        row = next(csv.reader([line]))
        if len(row) != 2 or row[1] not in CREMA_D_CLASSES:
            raise ValueError(
                f"Line {number} of `{path}` must be the name of a clip, a "
                f"comma and one of {CREMA_D_CLASSES}. Received: {line!r}"
            )
        name = clips.check_name(row[0], path, number)
        listed.append(
            clips.Clip(
                str(folder / "AudioWAV" / f"{name}.wav"),
                str(folder / "Image-01-FPS" / name),
                CREMA_D_CLASSES.index(row[1]),
            )
        )
    return listed


def _spectrogram(path):
    samples = sound.read_mono(path, _RATE)
    samples = np.tile(samples, 3)[: _SECONDS * _RATE]
    if len(samples) < _SECONDS * _RATE:
        raise ValueError(
            f"`{path}` must last a second at least. "
            f"Received: {len(samples) / 3 / _RATE:.2f} seconds"
        )
    return sound.log_stft(np.clip(samples, -1, 1), 512, 353)
