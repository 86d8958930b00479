import numpy as np

from keras_mimo.plots.style import color_bar
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import styled

# Numbers in more cells than that are too small to read.
_WRITTEN = 8


def conflict_heatmap(cosines, names=None, groups=None, figure=None, path=None):
    """Draws which gradients agree (blue) and which conflict (red).

    Args:
        cosines: Array of shape `(K, K)`, of classes or of objectives: that of
            `BalanceMonitor.cosines()`, or the affinity of a
            `keras_mimo.grouping.ClassGrouping` minus 1.
        names: List of K strings. Defaults to `None`: numbers from 0.
        groups: List of lists of numbers, each number once: the order of rows
            and columns, with a frame around each group. Defaults to `None`.
        figure: A `matplotlib` figure, or a part of one, to draw in. Defaults to
            `None`: a new one.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`, or the part that was given.

    Raises:
        ImportError: Without matplotlib.
        ValueError: If the arguments don't fit.

    Example:

    ```python
    cosines, names = monitor.cosines("shared")
    keras_mimo.plots.conflict_heatmap(cosines, names, path="conflict.png")
    ```
    """
    cosines = np.asarray(cosines, "float64")
    if cosines.ndim != 2 or cosines.shape[0] != cosines.shape[1]:
        raise ValueError(
            "`cosines` must be a square matrix. "
            f"Received: an array of shape {cosines.shape}"
        )
    count = len(cosines)
    names = list(map(str, range(count))) if names is None else list(names)
    if len(names) != count:
        raise ValueError(
            f"`names` must have one entry for each of {count} rows. "
            f"Received: names={names}"
        )
    order = [k for group in groups or [range(count)] for k in group]
    if sorted(order) != list(range(count)):
        raise ValueError(
            f"`groups` must hold each number from 0 to {count - 1} once. "
            f"Received: groups={groups}"
        )
    cosines = cosines[np.ix_(order, order)]
    with styled():
        side = 3.5 + 0.35 * max(count, 4)
        figure = new_figure(side + 1, side, figure)
        axis = figure.subplots()
        image = axis.imshow(cosines, cmap="RdBu", vmin=-1, vmax=1)
        axis.set_facecolor("#dddddd")
        labels = [names[k] for k in order]
        axis.set_xticks(range(count), labels, rotation=45, ha="right")
        axis.set_yticks(range(count), labels)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        if count <= _WRITTEN:
            _write_numbers(axis, cosines)
        _draw_frames(axis, groups or [])
        color_bar(figure, image, axis, label="cosine of gradients")
        return finish(figure, path)


def _write_numbers(axis, cosines):
    for (row, column), cosine in np.ndenumerate(cosines):
        if row == column or np.isnan(cosine):
            continue
        axis.text(
            column,
            row,
            f"{cosine:.1f}".replace("-0.0", "0.0"),
            ha="center",
            va="center",
            fontsize="small",
            color="white" if abs(cosine) > 0.6 else "black",
        )


def _draw_frames(axis, groups):
    from matplotlib.patches import Rectangle

    start = -0.5
    for group in groups:
        size = len(group)
        axis.add_patch(
            Rectangle(
                (start, start), size, size, fill=False, lw=2.5, clip_on=False
            )
        )
        start += size
