"""The code of the README runs as it stands there."""

import re
from pathlib import Path

import keras
import numpy as np

import keras_mimo

README = Path(__file__).parents[1] / "README.md"


def given():
    """What the README takes for granted: data, encoders, a trunk."""
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


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 3
    names = given()
    if keras.backend.backend() == "torch":
        # It writes no SavedModel, as the README says.
        blocks[0] = blocks[0].replace('model.export("served_model")', "")
    for block in blocks:
        exec(block, names)
    assert isinstance(names["model"].combiner, keras_mimo.MGDACombiner)
    combiner = names["InverseLossCombiner"]()
    weights = keras.ops.convert_to_numpy(combiner([0.5, 2.0]))
    np.testing.assert_allclose(weights, [2.0, 0.5], rtol=1e-5)
    served = tmp_path / "served_model" / "saved_model.pb"
    assert served.exists() == (keras.backend.backend() != "torch")
