"""What the tests that run the code of documents share."""

import re

import keras
import numpy as np


def python_blocks(path):
    """The Python code of a Markdown file, a string for each block."""
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.S)


def given():
    """What documents take for granted: data, encoders, a trunk."""
    rng = np.random.default_rng(0)
    x = {
        name: rng.normal(size=(16, 20, 3)).astype("float32")
        for name in ("accel", "gyro")
    }
    y = rng.integers(0, 7, 16)
    inputs = keras.Input((4,))
    return dict(
        accel=encoder(),
        gyro=encoder(),
        train=Batches(x, y),
        val=Batches(x, y),
        inputs=inputs,
        depth=keras.layers.Dense(1)(inputs),
        label=keras.layers.Dense(3, activation="softmax")(inputs),
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.x, self.y


def encoder():
    return keras.Sequential(
        [
            keras.Input((20, 3)),
            keras.layers.Conv1D(4, 3),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
