"""The code of the guides runs as it stands there, on small data."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tokenizers
from keras import layers

import keras_mimo
from tests.documents import given
from tests.documents import python_blocks

DOCS = Path(__file__).parents[2] / "docs"
CLASSES = 5


@pytest.mark.slow
def test_long_tails():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = np.repeat(np.arange(CLASSES), (30, 16, 8, 6, 4))
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    logits = layers.Dense(CLASSES)(hidden)
    names = dict(
        keras=keras,
        keras_mimo=keras_mimo,
        model=keras.Model(inputs, logits),
        inputs=inputs,
        logits=logits,
        x=x,
        y=y,
    )
    loss, groups = python_blocks(DOCS / "long_tail.md")
    exec(loss, names)
    exec(groups.replace("epochs=30", "epochs=6"), names)
    ((epoch, grouping),) = names["regroup"].history
    assert epoch == 5
    found = sorted(c for group in grouping.groups for c in group)
    assert found == list(range(CLASSES))
    assert names["model"].objectives.groups == grouping.groups


def test_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4)).astype("float32")
    y = {"depth": x[:, :1].copy(), "kind": rng.integers(3, size=8)}
    y["depth"][:2] = np.nan
    y["kind"][6:] = -1
    inputs = keras.Input((4,))
    shared = layers.Dense(8)(inputs)
    outputs = {
        "depth": layers.Dense(1, name="depth")(shared),
        "kind": layers.Dense(3, name="kind")(shared),
    }
    names = dict(
        keras=keras,
        keras_mimo=keras_mimo,
        model=keras_mimo.BalancedModel(inputs, outputs),
        kind_loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        x=x,
        y=y,
    )
    missing, override, backup = python_blocks(DOCS / "training.md")
    exec(override, names)
    names["model"] = names["MyModel"](inputs, outputs)
    exec(missing, names)
    exec(backup.replace("epochs=100", "epochs=2"), names)
    history = names["model"].history.history
    assert len(history["loss"]) == 2
    assert np.all(np.isfinite(history["loss"]))
    # It is done with, and a run with the same arguments starts anew.
    assert not (tmp_path / "backup").exists()


@pytest.mark.slow
def test_multimodal():
    names = {"keras": keras, "keras_mimo": keras_mimo, **given()}
    blocks = python_blocks(DOCS / "multimodal.md")
    fuse, _, add_heads, mask, missing, calibrate = blocks
    exec(fuse, names)
    assert names["model"].history.history["gyro_weight"][0] > 0
    exec(add_heads, names)
    assert set(names["model"].output) == {"fused", "accel", "gyro"}
    exec(mask, names)
    logs = names["model"].fit(names["train"], verbose=0).history
    assert logs["gyro_weight"][0] > 0
    exec(missing, names)
    x, y = names["train"][0]
    x = {name: np.array(value) for name, value in x.items()}
    x["accel"][0] = np.nan
    x["gyro"][1] = 0
    names.update(held_out=x, held_out_y=y)
    model = names["model"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    before = model.predict(x, verbose=0)["fused"]
    with pytest.warns(UserWarning, match="needs more samples"):
        exec(calibrate, names)
    assert (names["logits"] != before).any()
    after = model.predict(x, verbose=0)["fused"]
    np.testing.assert_array_equal(after, before)


@pytest.mark.slow
def test_texts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"it is number {i}, so they say" for i in range(15)] + [""]
    names = dict(np=np, keras_mimo=keras_mimo, texts=texts, **given())
    names["readings"] = names["train"][0][0]["accel"]
    (block,) = [
        code
        for code in python_blocks(DOCS / "multimodal.md")
        if "tokenizer" in code
    ]
    exec(block, names)
    ids = names["x"]["text"]
    assert ids.shape == (16, 64) and ids.dtype == "int32"
    assert ids[0, 0] > 1 and not ids[0, 32:].any() and not ids[-1].any()
    assert ids.max() < names["tokenizer"].get_vocab_size()
    assert len(np.unique(ids[:15], axis=0)) == 15
    # What the served model's caller reads.
    read = tokenizers.Tokenizer.from_file("tokenizer.json")
    codes = read.encode_batch(texts, add_special_tokens=False)
    np.testing.assert_array_equal([code.ids for code in codes], ids)

    model = names["model"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, combiner=keras_mimo.MIMOCombiner())
    logs = model.fit(names["x"], np.arange(16) % 7, verbose=0).history
    assert np.all(np.isfinite(logs["loss"]))


@pytest.mark.slow
def test_benchmark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    compared, modulated = python_blocks(DOCS / "benchmark.md")
    names = {"keras": keras, "keras_mimo": keras_mimo, **given()}
    exec(modulated.replace("epochs=100", "epochs=1"), names)
    assert "accel_factor" in names["model"].history.history
    rng = np.random.default_rng(0)
    x = {
        name: rng.normal(size=(70, 20, 3)).astype("float32")
        for name in ("accel", "gyro")
    }
    y = np.arange(70) % 7
    names.update(
        x_train=x, y_train=y, x_test=x, y_test=y, build=build_from(names)
    )
    for old, new in (('epochs": 20', 'epochs": 1'), ("seeds=5", "seeds=1")):
        compared = compared.replace(old, new)
    exec(compared, names)
    assert [m.name for m in names["result"].methods] == [
        "joint",
        "sum",
        "MIMO",
        "OGM-GE",
        "mgda",
    ]
    assert not any(m.error for m in names["result"].methods)
    assert Path("table.csv").exists() and Path("table.png").exists()


def build_from(names):
    def build():
        encoders = {
            name: keras.models.clone_model(names[name])
            for name in ("accel", "gyro")
        }
        return keras_mimo.late_fusion(encoders, num_classes=7)

    return build
