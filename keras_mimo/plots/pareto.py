import numpy as np

from keras_mimo.plots.style import COLORS
from keras_mimo.plots.style import GREY
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import styled


def pareto_front(scores, titles, minimize=False, path=None):
    """Draws the settings of a sweep by two scores, and which are best.

    Those that no other beats in both scores are blue and joined, the others
    grey. Of several runs of a setting the mean counts; the runs are small dots.

    Args:
        scores: Dict from what to call each setting to a pair of scores, or to a
            list of pairs with one for each run.
        titles: Pair of strings, what the scores are.
        minimize: Whether lower scores are better, or a pair of booleans for the
            two scores. Defaults to `False`.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
        TypeError: If `scores` is no dict.
        ValueError: If scores or titles are no pairs, or not finite.

    Example:

    ```python
    sweep = {f"{w:g}": accuracies(train(weight=w)) for w in (0.1, 0.3, 1, 3)}
    keras_mimo.plots.pareto_front(sweep, ("audio, %", "image, %"))
    ```
    """
    if not isinstance(scores, dict):
        raise TypeError(
            "`scores` must be a dict from names to pairs of scores. "
            f"Received: scores={scores} of type {type(scores)}"
        )
    runs = {
        name: np.atleast_2d(np.asarray(pairs, "float64"))
        for name, pairs in scores.items()
    }
    for name, pairs in runs.items():
        if pairs.shape[1:] != (2,) or not np.isfinite(pairs).all():
            raise ValueError(
                "`scores` must be pairs of finite numbers. "
                f"Received: scores[{name!r}]={scores[name]}"
            )
    if not runs or isinstance(titles, str) or len(titles) != 2:
        raise ValueError(
            "`scores` must hold a setting, and `titles` two strings. "
            f"Received: {len(runs)} settings, titles={titles!r}"
        )
    means = np.array([pairs.mean(axis=0) for pairs in runs.values()])
    signs = np.where(np.broadcast_to(minimize, 2), -1.0, 1.0)
    best = undominated(signs * means)
    front = means[best][np.argsort(means[best, 0], kind="stable")]
    with styled():
        figure = new_figure(7.5, 5.2)
        axis = figure.subplots()
        axis.plot(*front.T, color=COLORS[0], linewidth=1.5, zorder=1)
        for name, mean, wins in zip(runs, means, best, strict=True):
            color = COLORS[0] if wins else GREY
            if len(runs[name]) > 1:
                axis.scatter(*runs[name].T, color=color, alpha=0.35, s=14)
            axis.scatter(*mean, color=color, s=64, zorder=2)
            axis.annotate(
                name,
                mean,
                (7, 7),
                textcoords="offset points",
                color=color,
                weight="bold" if wins else "normal",
            )
        axis.margins(0.12)
        arrows = ["lower" if sign < 0 else "higher" for sign in signs]
        axis.set_xlabel(f"{titles[0]} ({arrows[0]} is better)")
        axis.set_ylabel(f"{titles[1]} ({arrows[1]} is better)")
        axis.grid()
        return finish(figure, path)


def undominated(points):
    """Which points no other is at least as good as in all, and better in one.

    Args:
        points: Array of shape `(n, scores)`, higher is better.

    Returns:
        Array of n booleans.
    """
    at_least = (points[None] >= points[:, None]).all(axis=-1)
    better = (points[None] > points[:, None]).any(axis=-1)
    return ~(at_least & better).any(axis=1)
