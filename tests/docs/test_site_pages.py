"""The code of the site's own pages runs as it stands there, on small data."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mimo
from tests.documents import given
from tests.documents import python_blocks

DOCS = Path(__file__).parents[2] / "docs"


def run(page, names):
    for block in python_blocks(DOCS / page):
        exec(block, names)
    return names


def two_tasks():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 4)).astype("float32")
    y = {"depth": x[:, :1], "label": rng.integers(3, size=8)}
    return {**given(), "x": x, "y": y}


def arrays(names):
    x, y = names["train"][0]
    return {name: value.copy() for name, value in x.items()}, y


def pictures_with_texts(seed):
    rng = np.random.default_rng(seed)
    x = {
        "picture": rng.normal(size=(16, 32, 32, 3)).astype("float32"),
        "text": rng.integers(1, 1000, size=(16, 16)).astype("int32"),
    }
    x["picture"][0], x["text"][1] = np.nan, 0
    return x, np.repeat(np.arange(3), (8, 5, 3))


@pytest.mark.parametrize("page", ["several_tasks", "from_torchjd"])
def test_tasks(page):
    names = run(f"guides/{page}.md", two_tasks())
    history = names["model"].history.history
    assert history["depth_weight"][0] > 0
    assert np.isfinite(history["loss"][0])


@pytest.mark.slow
def test_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = given()
    with pytest.warns(UserWarning, match="needs more samples"):
        run("index.md", names)
    assert names["model"].calibration is not None
    assert (tmp_path / "served_model" / "saved_model.pb").exists()


@pytest.mark.slow
def test_several_sensors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    history = run("guides/several_sensors.md", given())["history"].history
    assert {"fused_accuracy", "val_gyro_accuracy"} <= set(history)
    assert "accel" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_image_and_text():
    x, y = pictures_with_texts(seed=0)
    counts = keras_mimo.datasets.class_counts(y)
    names = dict(counts=counts, x=x, y=y)
    names["held_out"], names["held_out_y"] = pictures_with_texts(seed=1)
    with pytest.warns(UserWarning, match="needs more samples"):
        model = run("guides/image_text.md", names)["model"]
    assert model.calibration is not None
    assert np.isfinite(model.predict(x, verbose=0)["fused"]).all()


@pytest.mark.slow
def test_missing_modalities():
    names = given()
    x, y = arrays(names)
    x["accel"][0], x["gyro"][1] = np.nan, 0
    model = run("guides/missing_modalities.md", {**names, "x": x, "y": y})[
        "model"
    ]
    assert np.isfinite(model.predict(x, verbose=0)["fused"]).all()


@pytest.mark.slow
def test_serving(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = given()
    x, _ = arrays(names)
    names["model"] = keras_mimo.late_fusion(
        {"accel": names["accel"], "gyro": names["gyro"]}, num_classes=7
    )
    loaded = run("guides/serving.md", names)["loaded"]
    expected = names["model"].predict(x, verbose=0)["fused"]
    found = keras.tree.flatten(loaded.predict(x, verbose=0))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (tmp_path / "served_model" / "saved_model.pb").exists()
