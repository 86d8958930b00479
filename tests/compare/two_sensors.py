"""Data, and a model, that `python -m keras_mimo.compare` can take."""

import keras
import numpy as np
from keras import layers

import keras_mimo

CLASSES = 3
WIDTHS = {"clear": 6, "noise": 4}


def encoder(width):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(8, activation="relu")]
    )


def build():
    return keras_mimo.late_fusion(
        {name: encoder(width) for name, width in WIDTHS.items()}, CLASSES
    )


def samples(number, seed, strength=2.0):
    """One sensor knows the class, the other knows nothing."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, number)
    x = {
        name: random.normal(size=(number, width)).astype("float32")
        for name, width in WIDTHS.items()
    }
    x["clear"] += strength * np.eye(WIDTHS["clear"], dtype="float32")[y]
    return x, y


def load():
    return samples(120, seed=1), samples(150, seed=2)
