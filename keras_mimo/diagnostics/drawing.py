import numpy as np

from keras_mimo.diagnostics.evidence import ERRORS
from keras_mimo.plots.style import COLORS
from keras_mimo.plots.style import GREY
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import styled

_BLUE, _ORANGE, _GREEN = COLORS[:3]


def draw(report, path=None):
    """Draws a report: modalities alone and lost, their parts, who is right.

    Args:
        report: `ModalityReport`.
        path: Where to save the picture, or `None`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
    """
    with styled():
        panels = 2 if report.only_right is None else 3
        height = 2.2 + 0.7 * len(report.contributions.modalities)
        figure = new_figure(2 + 4 * panels, height)
        _draw(report, figure.subplots(1, panels, sharey=True))
        handles = figure.axes[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=3)
        return finish(figure, path)


def _draw(report, axes):
    found, figures = report.contributions, report.figures
    names = found.modalities
    factor, unit, part = 100, "% right", "points"
    if figures.is_regression:
        factor, unit, part = 1, "mean squared error", "less error"
    alone = [figures.score(found.alone[name]) for name in names]
    lost = [figures.score(found.lost[name]) for name in names]
    _bars(axes[0], alone, factor, -0.2, label="alone", color=_BLUE)
    _bars(axes[0], lost, factor, 0.2, label="without it", color=_ORANGE)
    axes[0].axvline(
        factor * figures.score(found.fused),
        color=GREY,
        linestyle="--",
        label="all together",
    )
    axes[0].set(title="Alone, and without it", xlabel=unit)
    parts = [found.parts[name] for name in names]
    errors = [ERRORS * figures.part(name).error for name in names]
    _bars(axes[1], parts, factor, color=_GREEN, errors=errors)
    axes[1].axvline(0, color=GREY, linewidth=1)
    axes[1].set(
        title="What it adds (Shapley part)",
        xlabel=f"{part}, ± {ERRORS} standard errors",
    )
    if report.only_right is not None:
        shares = [figures.share(report.only_right[name]) for name in names]
        _bars(axes[2], shares, factor, color=_BLUE)
        axes[2].set(title="Only it is right", xlabel="% of samples")
        axes[2].set_xlim(left=0)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.grid(axis="x")
        axis.tick_params(length=0)
        axis.spines["left"].set_visible(False)


def _bars(axis, values, factor, shift=None, errors=None, **style):
    # What is not known has no bar.
    values = factor * np.array(values, dtype="float64")
    axis.barh(
        np.arange(len(values)) + (shift or 0),
        values,
        0.5 if shift is None else 0.36,
        xerr=None if errors is None else factor * np.array(errors),
        error_kw={"ecolor": GREY, "capsize": 3},
        **style,
    )
