import keras
import numpy as np
import pytest

import keras_mimo
from benchmarks import multimodal_sets

# What the loaders return, but for the number of samples.
SHAPES = {
    "watch": {"accel": (100, 3), "gyro": (100, 3)},
    "HTAD": {"audio": (36,), "accel": (16,)},
    "mfeat": dict(fou=(76,), fac=(216,), kar=(64,), pix=(240,)),
    "emoji": {"image": (32, 32, 3), "keywords": (50,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", multimodal_sets.SETS)
def test_encoders_fit_the_data_and_learn(name):
    """One batch, learnt by heart: all that is not the data is right."""
    task = multimodal_sets.SETS[name]
    random = np.random.default_rng(0)
    x = {
        modality: random.normal(size=(8, *shape)).astype("float32")
        for modality, shape in SHAPES[name].items()
    }
    y = random.integers(0, task.num_classes, 8)
    keras.utils.set_random_seed(0)
    model = keras_mimo.late_fusion(task.encoders(x), task.num_classes)
    assert {output.shape for output in keras.tree.flatten(model.outputs)} == {
        (None, task.num_classes)
    }
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.SumCombiner(),
    )
    losses = model.fit(x, y, batch_size=8, epochs=20, verbose=0).history
    assert losses["loss"][-1] < 0.2 * losses["loss"][0]
    assert task.epochs > 0


def test_a_validation_part_is_split_off():
    y = np.repeat([0, 1], [10, 40])
    x = {"a": np.arange(50), "b": -np.arange(50)}
    rest, part = multimodal_sets.split_off((x, y), 0.2, seed=0)
    assert np.bincount(rest[1]).tolist() == [8, 32]
    assert np.bincount(part[1]).tolist() == [2, 8]
    for x_part, y_part in (rest, part):
        np.testing.assert_array_equal(x_part["a"], -x_part["b"])
        np.testing.assert_array_equal(y[x_part["a"]], y_part)


def test_absent_data_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(multimodal_sets, "DATA", tmp_path)
    for name in ("HTAD", "mfeat", "emoji"):
        with pytest.raises(FileNotFoundError, match=r"Run `(pip|npm)"):
            multimodal_sets.SETS[name].load()
