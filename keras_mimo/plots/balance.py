import itertools

import numpy as np

from keras_mimo.plots.style import draw_band
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import line_styles
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import plain
from keras_mimo.plots.style import styled
from keras_mimo.plots.style import whole_epochs

_LABELS = {
    "length": "length of gradient",
    "cosine": "cosine of gradients",
    "gap": "validation − training loss",
    "weight": "weight",
}
# More lines than that in a panel can't be told apart.
_LINES = 6


def balance_figure(history, path=None):
    """Draws what a `BalanceMonitor` saw.

    Args:
        history: Its `history`.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
        ValueError: If it is empty.
    """
    objectives = _after("balance/gap/", history)
    blocks = list(
        dict.fromkeys(
            name.split("/")[0] for name in _after("balance/length/", history)
        )
    )
    if not objectives:
        raise ValueError(
            "There is nothing to draw before the end of the first epoch. "
            f"Received: {len(history['epoch'])} epochs"
        )
    pairs = [f"{a}/{b}" for a, b in itertools.combinations(objectives, 2)]
    styles = line_styles([*objectives, *pairs])
    epochs = np.array(history["epoch"]) + 1

    def lines(prefix, names, suffix=""):
        found = {n: history.get(f"{prefix}{n}{suffix}") for n in names}
        found = {n: np.array(v) for n, v in found.items() if v is not None}
        if "length" in prefix:
            # They have no place on a scale of powers.
            found = {n: np.where(v > 0, v, np.nan) for n, v in found.items()}
        return {n: v for n, v in found.items() if np.isfinite(v).any()}

    panels = [
        [
            (_title(b), "length", lines(f"balance/length/{b}/", objectives))
            for b in blocks
        ],
        [
            (_title(b), "cosine", lines(f"balance/cosine/{b}/", pairs))
            for b in blocks
        ],
        [
            ("Generalisation gap", "gap", lines("balance/gap/", objectives)),
            ("Weights", "weight", lines("", objectives, "_weight")),
        ],
    ]
    panels = [[panel for panel in row if panel[2]] for row in panels]
    panels = [row for row in panels if row]
    with styled():
        width = 3.7 * max(map(len, panels)) + 0.5
        figure = new_figure(max(width, 8), 3.2 * len(panels))
        rows = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
        for part, row in zip(rows, panels, strict=True):
            axes = part.subplots(1, len(row), squeeze=False)[0]
            for axis, panel in zip(axes, row, strict=True):
                _draw(axis, epochs, *panel, styles)
            if row[0][1] in ("length", "cosine"):
                for axis in axes[1:]:
                    axis.set_ylabel("")
            _legend(part, axes)
        return finish(figure, path)


def _title(block):
    return "Shared variables" if block == "shared" else f"Encoder of {block}"


def _after(prefix, history):
    return [n.removeprefix(prefix) for n in history if n.startswith(prefix)]


def _draw(axis, epochs, title, label, lines, styles):
    from matplotlib.ticker import LogLocator
    from matplotlib.ticker import NullFormatter

    measured = np.isfinite(np.array(list(lines.values()))).any(axis=0)
    if label == "cosine" and len(lines) > _LINES:
        # Mean, lowest and highest.
        values = np.array([v[measured] for v in lines.values()])
        draw_band(axis, epochs[measured], values, "all pairs", color="#0072B2")
        lines = {}
    for name, values in lines.items():
        draw_band(
            axis,
            epochs[measured],
            values[None, measured],
            name.replace("/", " and "),
            **styles[name],
        )
    if label == "length":
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    if label == "cosine":
        axis.set_ylim(-1.05, 1.05)
    if label != "length":
        axis.axhline(0, color="#999999", linewidth=1, zorder=0)
    axis.set(title=title, ylabel=_LABELS[label])
    plain(axis)
    whole_epochs(axis)


def _legend(part, axes):
    """One legend beside the panels of a row."""
    found = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    part.legend(found.values(), found, loc="outside right center")
