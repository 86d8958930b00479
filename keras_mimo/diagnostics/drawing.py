from keras_mimo.diagnostics.evidence import ERRORS

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def draw(report, path=None):
    """Draws a report: modalities alone and lost, their parts, who is right.

    Args:
        report: `ModalityReport`.
        path: Where to save the picture, or `None`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "A picture needs matplotlib. Install it with "
            "`pip install keras-mimo[plot]`."
        ) from error
    found, figures = report.contributions, report.figures
    panels = 2 if report.only_right is None else 3
    names = found.modalities
    figure = Figure(
        (1.5 + 3.6 * panels, 1.9 + 0.6 * len(names)),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(1, panels, sharey=True)
    places = range(len(names))
    factor = 1 if figures.is_regression else 100
    unit = "mean squared error" if figures.is_regression else "% right"

    def bars(axis, values, shift, height, label, color):
        shown = [(p, v) for p, v in zip(places, values, strict=True)]
        for place, value in shown:
            if value is None:
                continue
            axis.barh(
                place + shift,
                factor * value,
                height,
                color=color,
                label=label,
            )
            # Said once in the legend.
            label = None

    def score_of(scores):
        return [figures.score(scores[name]) for name in names]

    bars(axes[0], score_of(found.alone), -0.2, 0.36, "alone", _BLUE)
    bars(axes[0], score_of(found.lost), 0.2, 0.36, "without it", _ORANGE)
    axes[0].axvline(
        factor * figures.score(found.fused),
        color=_GREY,
        linestyle="--",
        label="all together",
    )
    axes[0].set(title="Alone, and without it", xlabel=unit)
    bars(axes[1], [found.parts[n] for n in names], 0, 0.5, None, _GREEN)
    for place, name in enumerate(names):
        half = ERRORS * figures.part(name).error
        axes[1].errorbar(
            factor * found.parts[name],
            place,
            xerr=factor * half,
            color=_GREY,
            capsize=3,
        )
    axes[1].axvline(0, color=_GREY, linewidth=1)
    axes[1].set(
        title="What it adds to the others",
        xlabel=f"Shapley part, ± {ERRORS} standard errors",
    )
    if panels == 3:
        shares = [figures.share(report.only_right[name]) for name in names]
        bars(axes[2], shares, 0, 0.5, None, _BLUE)
        axes[2].set(title="Only it is right", xlabel="% of samples")
        axes[2].set_xlim(left=0)
    axes[0].set_yticks(places, names)
    axes[0].invert_yaxis()
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(length=0)
        axis.grid(axis="x", color="#dddddd")
        axis.set_axisbelow(True)
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    if path is not None:
        figure.savefig(path)
    return figure
