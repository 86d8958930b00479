from keras_mimo.plots.runs import runs_by_name
from keras_mimo.plots.runs import stacked
from keras_mimo.plots.style import draw_band
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import line_styles
from keras_mimo.plots.style import name_ends
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import plain
from keras_mimo.plots.style import styled
from keras_mimo.plots.style import whole_epochs

# Scores that are shown in percent.
_SHARES = ("accuracy", "recall", "precision", "f1")


def training_curves(
    histories, metric="loss", outputs=None, titles=None, colors=None, path=None
):
    """Draws a score of every output over the epochs.

    A line is the mean over runs, such as those of several seeds, and its band
    goes from the lowest to the highest. It is of the validation data, where
    there are any in all runs.

    Of one way to train there is one panel, with a line for each output and, if
    it is of validation, a dotted one for the training data. Of several ways
    there is a panel for each output, with a line for each way.

    Args:
        histories: What `fit()` returned, its `history`, or a list of these with
            one for each run; or a dict of such from the names of several ways
            to train.
        metric: String: the score called `<output>_<metric>` in the logs.
            Defaults to `"loss"`.
        outputs: List of names. Defaults to `None`: all that have the score,
            "fused" first.
        titles: Dict from outputs to what to call them. Defaults to `None`:
            their names.
        colors: Dict from some of the names of lines to colours.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
        TypeError: If `histories` holds what is no run.
        ValueError: If a run lacks the score, or runs differ in their epochs.

    Example:

    ```python
    runs = {name: [train(name, s) for s in range(3)] for name in ("joint", ...)}
    keras_mimo.plots.training_curves(runs, "accuracy", path="curves.png")
    ```
    """
    ways = runs_by_name(histories)
    suffix = f"_{metric}"
    if outputs is None:
        outputs = _outputs(ways, suffix)
    titles = {name: (titles or {}).get(name, name) for name in outputs}
    held_out = all(
        f"val_{output}{suffix}" in run
        for output in outputs
        for runs in ways.values()
        for run in runs
    )
    factor = 100 if metric.endswith(_SHARES) else 1

    def curve(runs, output, prefix):
        return factor * stacked(runs, f"{prefix}{output}{suffix}")

    prefix = "val_" if held_out else ""
    with styled():
        if len(ways) > 1:
            figure = new_figure(2 + 3 * len(outputs), 4.8)
            axes = figure.subplots(1, len(outputs), sharey=True, squeeze=False)
            axes, styles = axes[0], line_styles(ways, colors)
            for axis, output in zip(axes, outputs, strict=True):
                lines = {w: curve(r, output, prefix) for w, r in ways.items()}
                _draw(axis, lines, styles)
                axis.set_title(titles[output])
        else:
            (runs,) = ways.values()
            figure = new_figure(8, 4.8)
            axes, styles = [figure.subplots()], line_styles(outputs, colors)
            _draw(
                axes[0],
                {o: curve(runs, o, prefix) for o in outputs},
                styles,
                {o: curve(runs, o, "") for o in outputs} if held_out else {},
            )
        for axis in axes:
            if factor == 100:
                axis.set_ylim(0, 100)
            ends = axis is axes[-1]
            name_ends(axis, titles | {w: w for w in ways}, styles, ends, factor)
        axes[0].set_ylabel(metric + (", %" if factor == 100 else ""))
        if held_out:
            what = "Solid: validation data; dotted: training data."
            if len(ways) > 1:
                what = "On validation data."
            figure.supxlabel(what, fontsize="small", color="#444444")
        return finish(figure, path)


def weights_over_time(histories, objectives=None, colors=None, path=None):
    """Draws the weights that a combiner gave to the objectives.

    A line is the mean over runs, and its band goes from the lowest to the
    highest.

    Args:
        histories: As in `training_curves()`.
        objectives: List of names. Defaults to `None`: all that have a weight.
        colors: Dict from some of the names of lines to colours.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
        TypeError: If `histories` holds what is no run.
        ValueError: If a run lacks weights, or runs differ in their epochs.

    Example:

    ```python
    history = model.fit(x, y, epochs=20)
    keras_mimo.plots.weights_over_time(history, path="weights.png")
    ```
    """
    return training_curves(
        histories, "weight", objectives, colors=colors, path=path
    )


def _outputs(ways, suffix):
    logs = next(iter(ways.values()))[0]
    found = [
        name.removesuffix(suffix)
        for name in logs
        if name.endswith(suffix) and not name.startswith("val_")
    ]
    if not found:
        raise ValueError(
            "`histories` must have scores called `<output>_<metric>`, such as "
            f"{'fused' + suffix!r}. Received: logs {list(logs)}"
        )
    # Keras sorts what it logs.
    return sorted(found, key=lambda name: name != "fused")


def _draw(axis, lines, styles, dotted=None):
    epochs = range(1, next(iter(lines.values())).shape[1] + 1)
    for name, runs in (dotted or {}).items():
        style = {**styles[name], "linestyle": "dotted", "linewidth": 1.5}
        axis.plot(epochs, runs.mean(axis=0), **style)
    for name, runs in lines.items():
        draw_band(axis, epochs, runs, label=name, **styles[name])
    plain(axis)
    whole_epochs(axis)
