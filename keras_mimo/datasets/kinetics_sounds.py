import re
from pathlib import Path

import numpy as np

from keras_mimo.datasets import clips
from keras_mimo.datasets import pictures
from keras_mimo.datasets import sound

_COLUMNS = 1024
_BINS = 128
# Of AudioSet's energies.
_MEAN, _STD = -4.503877, 5.141276
_LABELS = [str(label) for label in range(31)]
# List, folder of sound and folder of frames.
_TRAIN = ("my_train.txt", "train_wav/train", "train-frames-1fps/train")
_TEST = ("my_test.txt", "test_wav/test", "val-frames-1fps/test")


def load_kinetics_sounds(
    folder,
    frames=3,
    incomplete="drop",
    cache=None,
    validation_split=0.1,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads Kinetics-Sounds, ten seconds of people who do what can be heard.

    31 classes of Kinetics-400 such as playing the guitar or bowling, in some
    19,000 clips of YouTube.

    The data is neither downloaded nor bundled. The clips are at
    https://github.com/cvdfoundation/kinetics-dataset, the lists in
    `data/KineticSound` of https://github.com/GeWu-Lab/OGM-GE_CVPR2022, whose
    scripts extract sound (16 kHz) and frames (one a second). `folder` is laid
    out as there:

    ```
    my_train.txt, my_test.txt          lines such as -3Mwkq-7TV4_2,10,23
    train_wav/train/-3Mwkq-7TV4_2.wav
    train-frames-1fps/train/-3Mwkq-7TV4_2/frame_00001.jpg ...
    test_wav/test/..., val-frames-1fps/test/...
    ```

    A line begins with the name of a clip and ends with its class, from 0, with
    commas or blanks between. SciPy and Pillow, which read the files, are
    installed by `pip install keras-mimo[sound,images]`.

    **License**: the lists of Kinetics-400 are under CC BY 4.0; the clips belong
    to those who put them on YouTube.

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

        **Inputs**: dict of `"audio"`, `float32` of shape `(1024, 128, 1)`, and
        `"image"`, `float32` of shape `(frames, 224, 224, 3)`.

        **Labels**: `int32`, as listed.

        The sound is Kaldi's log-mel energies of 128 bins in windows of 25 ms
        every 10 ms (Hann, not Kaldi's own window) at the rate of the file, of
        the first channel. They are padded with zeros or cut to 1024 windows and
        scaled: `(x + 4.503877) / (2 * 5.141276)`. Of `frames` equal parts of
        the clip a picture before the middle is taken (for `3` of ten, the
        first, the fourth and the seventh), of six or fewer the first each time,
        scaled to 224 x 224 and normalised by the mean and the deviation of
        ImageNet's. A clip of fewer than four pictures counts as one without.

    Raises:
        FileNotFoundError: If a list or a folder is missing.
        ImportError: If SciPy or Pillow is not installed.
        TypeError: If a size is no integer.
        ValueError: If an argument or a list is wrong, or no clip is complete;
            later, if a file that is read is damaged, or a clip is
            shorter than a window.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_kinetics_sounds(
        "kinetics_sounds", cache="kinetics_sounds/decoded", workers=4
    )
    ```

    Reference: Arandjelović and Zisserman, Look, Listen and Learn, ICCV 2017.
    The sound: OGM-GE (`data/KineticSound/process_audio.py` of its code); lists
    and frames: BalanceBenchmark (`KS_dataset.py`).
    """
    folder = Path(folder)
    clips.check_folder(folder, *_TRAIN, *_TEST)
    form = clips.ClipFormat(
        _spectrogram, (_COLUMNS, _BINS), pictures.numbered, least=4
    )
    loader = clips.ClipLoader(
        form, frames, incomplete, cache, batch_size, seed, kwargs
    )
    train, test = (
        loader.find(_listed(folder, *names), folder / names[0])
        for names in (_TRAIN, _TEST)
    )
    return *loader.split(train, validation_split), loader.samples(test)


def _listed(folder, list_file, sounds, images):
    path = folder / list_file
    listed = []
    for number, line in clips.read_lines(path):
        fields = re.split(r"[,\s]+", line)
        name, label = fields[0], fields[-1]
        if len(fields) < 2 or label not in _LABELS:
            raise ValueError(
                f"Line {number} of `{path}` must begin with the name of a clip "
                f"and end with a class from 0 to {_LABELS[-1]}. "
                f"Received: {line!r}"
            )
        name = clips.check_name(name, path, number)
        listed.append(
            clips.Clip(
                str(folder / sounds / f"{name}.wav"),
                str(folder / images / name),
                int(label),
            )
        )
    return listed


def _spectrogram(path):
    samples, rate = sound.read_wav(path)
    energies = sound.kaldi_fbank(samples[:, 0], rate, _BINS)[:_COLUMNS]
    if not len(energies):
        raise ValueError(
            f"`{path}` must last 25 ms at least. Received: {len(samples)} "
            f"samples, {rate} a second"
        )
    padded = np.zeros((_COLUMNS, _BINS), "float32")
    padded[: len(energies)] = energies
    return (padded - np.float32(_MEAN)) / np.float32(2 * _STD)
