import keras
import numpy as np
import pytest
from matplotlib import image

from keras_mimo.plots import training_curves
from keras_mimo.plots import weights_over_time
from keras_mimo.plots.style import COLORS
from keras_mimo.plots.style import apart


def run(seed, validation=True):
    random = np.random.default_rng(seed)
    names = [
        f"{output}_{what}"
        for output in ("audio", "fused", "image")
        for what in ("accuracy", "loss", "weight")
    ]
    logs = {name: list(random.uniform(size=5)) for name in names}
    if validation:
        logs |= {
            f"val_{name}": list(random.uniform(size=5))
            for name in names
            if not name.endswith("weight")
        }
    return {**logs, "loss": [1.0] * 5, "conflict": [0.5] * 5}


def lines(axis):
    return {
        line.get_label(): line.get_ydata()
        for line in axis.get_lines()
        if not line.get_label().startswith("_")
    }


def test_a_panel_for_each_output(tmp_path):
    runs = {way: [run(s) for s in (k, k + 10)] for k, way in enumerate("ab")}
    figure = training_curves(
        runs, "accuracy", titles={"fused": "Both"}, path=tmp_path / "curves.png"
    )
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["Both", "audio", "image"]
    assert [axis.get_ylabel() for axis in axes] == ["accuracy, %", "", ""]
    for axis, output in zip(axes, ("fused", "audio", "image"), strict=True):
        assert axis.get_xlabel() == "epoch"
        assert axis.get_ylim() == (0, 100)
        for way, drawn in lines(axis).items():
            values = [r[f"val_{output}_accuracy"] for r in runs[way]]
            np.testing.assert_allclose(drawn, 100 * np.mean(values, axis=0))
        # A band for each of the ways.
        assert len(axis.collections) == 2
        low = axis.collections[0].get_paths()[0].vertices[:, 1].min()
        expected = min(min(r[f"val_{output}_accuracy"]) for r in runs["a"])
        assert low == pytest.approx(100 * expected)
    # The last panel alone says which line is which.
    texts = [[text.get_text() for text in axis.texts] for axis in axes]
    assert [any(" a" in t for t in found) for found in texts] == [0, 0, 1]
    height, width, _ = image.imread(tmp_path / "curves.png").shape
    assert width == 1650 and height == 720


@pytest.mark.parametrize("form", ["history", "logs", "list"])
def test_a_line_for_each_output(form):
    logs = run(0)
    given = {"logs": logs, "list": [logs]}
    history = keras.callbacks.History()
    history.history = logs
    given["history"] = history
    (axis,) = training_curves(given[form]).axes
    drawn = lines(axis)
    assert list(drawn) == ["fused", "audio", "image"]
    for output, values in drawn.items():
        np.testing.assert_allclose(values, logs[f"val_{output}_loss"])
    dotted = [x for x in axis.get_lines() if x.get_linestyle() == ":"]
    for line, output in zip(dotted, drawn, strict=True):
        np.testing.assert_allclose(line.get_ydata(), logs[f"{output}_loss"])
    # One run has no range.
    assert not axis.collections


def test_weights():
    runs = [run(s, validation=False) for s in range(3)]
    (axis,) = weights_over_time(runs, colors={"image": "red"}).axes
    drawn = lines(axis)
    for output, values in drawn.items():
        expected = np.mean([r[f"{output}_weight"] for r in runs], axis=0)
        np.testing.assert_allclose(values, expected)
    colors = {line.get_label(): line.get_color() for line in axis.get_lines()}
    assert colors["image"] == "red"
    assert colors["fused"] == COLORS[0]
    assert axis.get_ylabel() == "weight"


def test_settings_of_the_user_stay():
    import matplotlib

    before = dict(matplotlib.rcParams)
    training_curves(run(0))
    assert dict(matplotlib.rcParams) == before


def test_labels_do_not_touch():
    heights = {"a": 99.0, "b": 99.5, "c": 99.2, "d": 10.0}
    moved = apart(heights, 6, 0, 100)
    assert list(moved) == ["d", "a", "c", "b"]
    assert moved["d"] == 10
    assert max(moved.values()) <= 100
    assert min(np.diff(sorted(moved.values()))) > 5.5


def test_errors():
    for given in ([], {}, {"a": []}):
        with pytest.raises(ValueError, match="at least one run"):
            training_curves(given)
    with pytest.raises(TypeError, match="what `fit"):
        training_curves([3])
    with pytest.raises(ValueError, match="`<output>_<metric>`"):
        training_curves(run(0), "recall")
    with pytest.raises(ValueError, match="'sound_loss'"):
        training_curves(run(0), outputs=["sound"])
    shorter = {name: values[:3] for name, values in run(0).items()}
    with pytest.raises(ValueError, match=r"as many epochs.*\[3, 5\]"):
        training_curves([run(0), shorter])
    with pytest.raises(ValueError, match=r"`colors`.*\['other'\]"):
        training_curves(run(0), colors={"other": "red"})


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[plot\]"):
        training_curves(run(0))
