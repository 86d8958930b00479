"""Pictures of scores that are given as arrays."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_mimo.plots import conflict_heatmap
from keras_mimo.plots import pareto_front
from keras_mimo.plots import recall_by_class
from keras_mimo.plots.pareto import undominated
from keras_mimo.plots.style import COLORS

COSINES = np.array([[1.0, -0.5, 0.25], [-0.5, 1.0, np.nan], [0.25, np.nan, 1]])


def test_heatmap(tmp_path):
    path = tmp_path / "heat.png"
    figure = conflict_heatmap(COSINES, list("abc"), path=path)
    assert path.stat().st_size > 1000
    axis, bar = figure.axes
    np.testing.assert_array_equal(axis.images[0].get_array(), COSINES)
    # White is 0, whatever the values are.
    assert axis.images[0].get_clim() == (-1, 1)
    assert bar.get_ylabel() == "cosine of gradients"
    assert [t.get_text() for t in axis.get_xticklabels()] == list("abc")
    assert [t.get_text() for t in axis.texts] == ["-0.5", "0.2", "-0.5", "0.2"]


def test_heatmap_in_groups():
    axis, _ = conflict_heatmap(COSINES, list("abc"), groups=[[2, 0], [1]]).axes
    assert [t.get_text() for t in axis.get_yticklabels()] == list("cab")
    order = np.ix_([2, 0, 1], [2, 0, 1])
    np.testing.assert_array_equal(axis.images[0].get_array(), COSINES[order])
    frames = [p for p in axis.patches if isinstance(p, Rectangle)]
    assert [frame.get_width() for frame in frames] == [2, 1]


def test_recalls_in_a_part_of_a_figure():
    figure = Figure((12, 5), layout="constrained")
    left, right = figure.subfigures(1, 2)
    recalls = {"plain": [0.9, 0.1, 0.5], "GBG": np.full((2, 3), 0.6)}
    drawn = recall_by_class(recalls, list("abc"), [5, 500, 50], figure=left)
    conflict_heatmap(COSINES, figure=right)
    assert drawn is left
    (axis,) = left.axes
    assert len(figure.axes) == 3
    plain, other = axis.get_lines()
    np.testing.assert_allclose(plain.get_ydata(), [10, 50, 90])
    np.testing.assert_allclose(other.get_ydata(), 60)
    assert plain.get_marker() != other.get_marker()
    labels = [t.get_text() for t in axis.get_xticklabels()]
    assert labels == ["b\n500", "c\n50", "a\n5"]
    assert axis.get_ylabel() == "recall, %"


def test_recalls_of_many_classes():
    (axis,) = recall_by_class(
        {"a": np.linspace(0, 1, 100)}, counts=range(100)
    ).axes
    np.testing.assert_allclose(
        axis.get_lines()[0].get_ydata(), np.linspace(100, 0, 100)
    )
    assert "most training samples first" in axis.get_xlabel()


def test_pareto_front(tmp_path):
    path = tmp_path / "front.png"
    sweep = {"a": (1, 5), "b": [(2, 4), (4, 4)], "c": (2, 4), "d": (5, 1)}
    figure = pareto_front(sweep, ("audio", "image"), path=path)
    assert path.stat().st_size > 1000
    (axis,) = figure.axes
    (front,) = axis.get_lines()
    np.testing.assert_array_equal(front.get_xydata(), [[1, 5], [3, 4], [5, 1]])
    colors = {t.get_text(): t.get_color() for t in axis.texts}
    assert [n for n, c in colors.items() if c == COLORS[0]] == ["a", "b", "d"]
    assert axis.get_xlabel() == "audio (higher is better)"
    (axis,) = pareto_front(sweep, ("x", "y"), minimize=(True, False)).axes
    (front,) = axis.get_lines()
    np.testing.assert_array_equal(front.get_xydata(), [[1, 5]])
    assert axis.get_ylabel() == "y (higher is better)"


def test_undominated():
    points = np.array([[0, 0], [1, 0], [1, 0], [0, 2], [1, -1]])
    found = undominated(points)
    # Two that are the same do not beat each other.
    assert list(found) == [False, True, True, True, False]


def test_errors():
    with pytest.raises(ValueError, match="square"):
        conflict_heatmap(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="`names`"):
        conflict_heatmap(COSINES, ["a"])
    with pytest.raises(ValueError, match="`groups`"):
        conflict_heatmap(COSINES, groups=[[0, 1]])
    with pytest.raises(TypeError, match="`recalls` must be a dict"):
        recall_by_class([0.5])
    with pytest.raises(ValueError, match="as many classes"):
        recall_by_class({"a": [0.5, 0.5]}, names=["one"])
    with pytest.raises(TypeError, match="`scores` must be a dict"):
        pareto_front([(1, 2)], ("x", "y"))
    for scores in ({"a": (1, 2, 3)}, {"a": (1, np.nan)}):
        with pytest.raises(ValueError, match="pairs of finite numbers"):
            pareto_front(scores, ("x", "y"))
    with pytest.raises(ValueError, match="two strings"):
        pareto_front({"a": (1, 2)}, ("x",))
