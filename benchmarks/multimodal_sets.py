"""The open multi-modal data sets of the benchmarks, and small encoders.

`make bench-data` fetches the data that is not installed with a package.
"""

import itertools
import typing
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers

from keras_mimo.datasets import load_emoji
from keras_mimo.datasets import load_htad
from keras_mimo.datasets import load_mfeat
from keras_mimo.datasets import load_watch
from keras_mimo.datasets.stratified import split_off as _split_off

DATA = Path(__file__).with_name("data")


class MultimodalSet(typing.NamedTuple):
    """Data with several modalities, and how it is trained.

    Args:
        load: Function that returns `(x_train, y_train), (x_test, y_test)`, `x`
            a dict by modality.
        encoders: Function of such an `x` that returns new encoders, a dict by
            modality, of features of shape `(batch, features)`.
        num_classes: Integer.
        epochs: Integer, with Adam at 1e-3 and batches of 64.
        hold_out: Function of a seed that returns `train, held_out, test`, each
            `(x, y)`, where samples come in groups that must not be cut. `None`
            where a fifth of the samples will do.
    """

    load: Callable
    encoders: Callable
    num_classes: int
    epochs: int
    hold_out: Callable | None = None

    def three_parts(self, seed):
        """Training, held-out and test part, the first two of `load()[0]`."""
        if self.hold_out is not None:
            return self.hold_out(seed)
        train, test = self.load()
        return *split_off(train, 0.2, seed), test


def split_off(train, fraction, seed):
    """Splits off a validation part in which classes are as frequent.

    Args:
        train: Tuple `(x, y)`, `x` a dict by modality.
        fraction: Float in `(0, 1)`. One sample of each class stays at least.
        seed: Integer.

    Returns:
        Tuple `(rest, part)`, each like `train`.
    """
    return _split_off(*train, fraction, seed)


def _hold_out_people(seed):
    """The watch data with two of the six people to train on held out.

    Standardised by what the other four recorded.
    """
    test = (1, 4, 7, 10)
    pairs = list(itertools.combinations((2, 3, 5, 6, 8, 9), 2))
    held_out = pairs[np.random.default_rng(seed).integers(len(pairs))]
    train, _ = load_watch((*test, *held_out), standardize=False)
    parts = [train]
    parts += [load_watch(p, standardize=False)[1] for p in (held_out, test)]
    moments = {
        name: (x.mean(axis=(0, 1)), x.std(axis=(0, 1)))
        for name, x in train[0].items()
    }
    return [
        ({k: (x[k] - mean) / std for k, (mean, std) in moments.items()}, y)
        for x, y in parts
    ]


def _encoder(shape, *hidden):
    return keras.Sequential([keras.Input(shape), *hidden])


def _convolutions_1d(x):
    """As in examples/quickstart.py."""
    return _encoder(
        x.shape[1:],
        layers.Conv1D(32, 5, strides=2, activation="relu"),
        layers.Conv1D(64, 5, strides=2, activation="relu"),
        layers.GlobalMaxPooling1D(),
    )


def _convolutions_2d(x):
    return _encoder(
        x.shape[1:],
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.Conv2D(64, 3, strides=2, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
    )


def _dense(x):
    return _encoder(x.shape[1:], layers.Dense(64, activation="relu"))


def _each(encoder):
    """The same kind of encoder for all modalities."""
    return lambda x: {name: encoder(values) for name, values in x.items()}


def _of_emoji(x):
    return {
        "image": _convolutions_2d(x["image"]),
        "keywords": _dense(x["keywords"]),
    }


def av_digits_encoders(x):
    """Of pictures and of spectrograms, for AV-digits."""
    return {name: _convolutions_2d(values) for name, values in x.items()}


SETS = {
    "watch": MultimodalSet(
        load_watch, _each(_convolutions_1d), 7, 20, _hold_out_people
    ),
    "HTAD": MultimodalSet(lambda: load_htad(DATA), _each(_dense), 7, 40),
    "mfeat": MultimodalSet(lambda: load_mfeat(DATA), _each(_dense), 10, 20),
    "emoji": MultimodalSet(lambda: load_emoji(DATA), _of_emoji, 89, 30),
}
