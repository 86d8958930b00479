import math

# Panels beside each other, at most.
_ACROSS = 4


def plot_comparison(comparison, path):
    """Draws a panel for each score: a line a method, a dot a seed.

    Args:
        comparison: `Comparison`.
        path: String or path of the picture.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "A picture needs matplotlib. Install it with "
            "`pip install keras-mimo[plot]`."
        ) from error
    titles = [t for t in comparison.titles if _is_drawn(t)]
    methods = [m for m in comparison.methods if m.error is None]
    if not methods:
        raise ValueError(
            "A picture needs a method that did not fail. Received: "
            f"{len(comparison.methods)} methods, all of which failed"
        )
    down = math.ceil(len(titles) / _ACROSS)
    across = math.ceil(len(titles) / down)
    figure = Figure(
        figsize=(1.5 + 2.6 * across, 0.6 + down * (0.9 + 0.3 * len(methods))),
        layout="constrained",
    )
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    axes = grid.ravel()
    for axis in axes[len(titles) :]:
        axis.set_visible(False)
    axes = axes[: len(titles)]
    places = range(len(methods))
    for title, axis in zip(titles, axes, strict=True):
        base = comparison.column(comparison.baseline, title)
        if base is not None:
            axis.axvline(base.mean(), color="#666666", linestyle="--")
        for place, method in zip(places, methods, strict=True):
            values = method.column(title)
            if values is None:
                continue
            heights = [place] * len(values)
            # The palette of Okabe and Ito, safe for the colour-blind.
            axis.scatter(values, heights, color="#56B4E9", s=14, zorder=2)
            axis.scatter(values.mean(), place, color="#0072B2", s=48, zorder=3)
        axis.set_title(title)
        axis.grid(axis="y", color="#dddddd")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(list(places), [method.name for method in methods])
    axes[0].invert_yaxis()
    unit = "accuracy, %"
    if "log loss" not in comparison.titles:
        unit = "mean squared error"
    figure.supxlabel(
        f"{unit}; large dot: mean over seeds; dashed: {comparison.baseline}"
    )
    figure.savefig(path, dpi=150)


def _is_drawn(title):
    kinds = ("fused", "calibrated", "alone", "worst lost")
    return title.endswith(kinds) and title != "worst alone"
