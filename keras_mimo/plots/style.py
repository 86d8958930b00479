"""What all pictures have in common."""

import contextlib
import itertools

# The palette of Okabe and Ito, safe for the colour-blind. Its yellow is too
# pale for a line.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#666666",
    "#E69F00",
    "#56B4E9",
)
MARKERS = ("o", "D", "s", "^", "v", "P", "X")
DASHES = ("solid", "dashed", "dotted")
GREY = "#666666"
# Readable at the width of a README, about 900 pixels.
SETTINGS = {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "normal",
    "axes.labelsize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 2.5,
    "savefig.dpi": "figure",
    "figure.facecolor": "white",
    "svg.fonttype": "none",
}
DPI = 150


@contextlib.contextmanager
def styled():
    """The settings of matplotlib inside, those of the user after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "A picture needs matplotlib. Install it with "
            "`pip install keras-mimo[plot]`."
        ) from error
    with matplotlib.rc_context(SETTINGS):
        yield


def new_figure(width, height, figure=None):
    """A figure of its own, or what the user gave, to draw in."""
    from matplotlib.figure import Figure

    if figure is not None:
        return figure
    # Not by pyplot, which keeps figures and may want a display.
    return Figure((width, height), dpi=DPI, layout="constrained")


def finish(figure, path):
    """Saves a figure, where a path is given, and returns it."""
    whole = figure.figure
    while whole.figure is not whole:
        whole = whole.figure
    # Here, as labels of ticks are made with the settings of that time.
    whole.draw_without_rendering()
    if path is not None:
        whole.savefig(path)
    return figure


def line_styles(names, colors=None):
    """A colour and a dash for each of several lines.

    Args:
        names: Names of the lines.
        colors: Dict from some of the names to colours, or `None`.

    Returns:
        Dict from names to arguments of `plot()`.

    Raises:
        ValueError: If `colors` has another name.
    """
    names, given = list(names), dict(colors or {})
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"`colors` must have names of lines, which are {names}. "
            f"Received: {unknown}"
        )
    left = [c for c in COLORS if c not in given.values()] or list(COLORS)
    # More lines than colours differ in their dashes.
    cycle = ((c, dash) for dash in itertools.cycle(DASHES) for c in left)
    styles = {}
    for name in names:
        if name in given:
            styles[name] = {"color": given[name], "linestyle": "solid"}
        else:
            color, dash = next(cycle)
            styles[name] = {"color": color, "linestyle": dash}
    return styles


def with_markers(styles):
    """Arguments of `plot()` with a marker of its own for each line."""
    return {
        name: {**style, "marker": marker}
        for (name, style), marker in zip(
            styles.items(), itertools.cycle(MARKERS)
        )
    }


def draw_band(axis, places, runs, label=None, **style):
    """The mean of runs as a line, and their range as a band.

    Args:
        axis: Axes.
        places: Sequence of numbers or strings.
        runs: Array of shape `(runs, places)`.
        label: String or `None`.
        **style: Arguments of `plot()`.
    """
    if len(places) == 1:
        # A line of one point can't be seen.
        style = {"marker": "o", **style}
    axis.plot(places, runs.mean(axis=0), label=label, **style)
    if len(runs) > 1:
        axis.fill_between(
            places,
            runs.min(axis=0),
            runs.max(axis=0),
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )


def name_ends(axis, titles, styles, named=True, factor=1):
    """Writes beside the ends of lines where they end, and what they are.

    Args:
        axis: Axes with labelled lines and their final limits.
        titles: Dict from labels to what to call them.
        styles: Dict from labels to arguments of `plot()`.
        named: Boolean: whether to write what they are.
        factor: 100 where heights are percent, of which no decimals are shown.
    """
    lines = {line.get_label(): line for line in axis.get_lines()}
    ends = {
        label: line.get_xydata()[-1]
        for label, line in lines.items()
        if label in styles
    }
    low, high = axis.get_ylim()
    heights = {label: height for label, (_, height) in ends.items()}
    gap = 0.065 * (high - low)
    for label, height in apart(heights, gap, low, high).items():
        place, value = ends[label]
        text = f"{value:.0f}" if factor == 100 else f"{value:.3g}"
        axis.annotate(
            f"{text}  {titles[label]}" if named else text,
            (place, height),
            (8, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=styles[label]["color"],
            weight="bold",
            annotation_clip=False,
        )


def apart(heights, gap, low, high):
    """Moves labels up and down until none touches another.

    Args:
        heights: Dict from names to heights.
        gap: Float, the least difference of two heights.
        low: Float, which no height is to be below.
        high: Float, which no height is to be above.

    Returns:
        Dict like `heights`, in their order.
    """
    heights = dict(sorted(heights.items(), key=lambda item: item[1]))
    for _ in range(50):
        for below, above in itertools.pairwise(heights):
            overlap = max(0, gap - heights[above] + heights[below])
            heights[below] -= overlap / 2
            heights[above] += overlap / 2
        heights = {n: min(max(h, low), high) for n, h in heights.items()}
    return heights


def color_bar(figure, image, axis, **options):
    """A bar of colours beside an axis."""
    bar = figure.colorbar(image, ax=axis, shrink=0.8, **options)
    bar.outline.set_visible(False)


def whole_epochs(axis):
    """Ticks of an axis that counts epochs."""
    axis.set_xlabel("epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)


def plain(axis):
    """An axis with lines across it and nothing else to look at."""
    axis.grid(axis="y")
    axis.tick_params(which="both", length=0)
    axis.spines["left"].set_visible(False)
