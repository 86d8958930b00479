import numpy as np

from keras_mimo.plots.style import draw_band
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import line_styles
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import plain
from keras_mimo.plots.style import styled
from keras_mimo.plots.style import with_markers

# Names and markers of more classes can't be told apart.
_NAMED = 20


def recall_by_class(
    recalls, names=None, counts=None, colors=None, figure=None, path=None
):
    """Draws which share of each class is found.

    A line is the mean over runs, and its band goes from the lowest to the
    highest. A recall that is NaN, of a class without a sample, is left out.

    Args:
        recalls: Dict from the names of ways to train to the recall of each
            class, from 0 to 1: an array of shape `(classes,)`, or
            `(runs, classes)`.
        names: List of the names of the classes. Defaults to `None`: numbers
            from 0.
        counts: List of the number of training samples of each class, by which
            classes are ordered, largest first. Defaults to `None`.
        colors: Dict from some of the ways to train to colours.
        figure: A `matplotlib` figure, or a part of one, to draw in. Defaults to
            `None`: a new one.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`, or the part that was given.

    Raises:
        ImportError: Without matplotlib.
        TypeError: If `recalls` is no dict.
        ValueError: If the arguments don't fit.
    """
    if not isinstance(recalls, dict):
        raise TypeError(
            "`recalls` must be a dict from names to the recall of each class. "
            f"Received: recalls={recalls} of type {type(recalls)}"
        )
    recalls = {
        name: 100 * np.atleast_2d(np.asarray(values, "float64"))
        for name, values in recalls.items()
    }
    sizes = {values.shape[-1] for values in recalls.values()}
    given = {len(x) for x in (names, counts) if x is not None}
    if len(sizes) != 1 or not given <= sizes:
        raise ValueError(
            "`recalls`, and `names` and `counts` if given, must be of as many "
            f"classes. Received: {sorted(sizes)} recalls, and {sorted(given)}"
        )
    (size,) = sizes
    order = np.arange(size)
    labels = list(map(str, range(size))) if names is None else list(names)
    if counts is not None:
        order = np.argsort(-np.asarray(counts), kind="stable")
        labels = [f"{n}\n{c}" for n, c in zip(labels, counts, strict=True)]
    with styled():
        figure = new_figure(min(max(7.5, 3 + 0.5 * size), 11), 5.2, figure)
        axis = figure.subplots()
        styles = line_styles(recalls, colors)
        styles = with_markers(styles) if size <= _NAMED else styles
        places = np.arange(size)
        for name, values in recalls.items():
            draw_band(axis, places, values[:, order], name, **styles[name])
        axis.set(ylim=(0, 102), ylabel="recall, %")
        if size <= _NAMED:
            axis.set_xticks(
                places, [labels[k] for k in order], rotation=45, ha="right"
            )
        else:
            axis.set_xlabel("class")
        if counts is not None:
            named = "class, and its training samples"
            numbered = "classes, those of the most training samples first"
            axis.set_xlabel(named if size <= _NAMED else numbered)
        plain(axis)
        axis.legend(loc="lower left")
        return finish(figure, path)
