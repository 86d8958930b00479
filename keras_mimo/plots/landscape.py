import keras
import numpy as np
from keras import ops

from keras_mimo.plots.style import color_bar
from keras_mimo.plots.style import finish
from keras_mimo.plots.style import line_styles
from keras_mimo.plots.style import name_ends
from keras_mimo.plots.style import new_figure
from keras_mimo.plots.style import plain
from keras_mimo.plots.style import styled
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units


def loss_landscape(
    model,
    x,
    y=None,
    other=None,
    losses=None,
    names=("this model", "the other"),
    points=21,
    span=1.0,
    seed=0,
    batch_size=None,
    verbose=0,
    path=None,
):
    """Draws the losses of a model where its weights are others.

    Between two models: along the straight line from the weights of the one to
    those of the other, and half as far again on both sides.

    Around one: along two random directions. Each filter of a direction, which
    is what belongs to one index of a kernel's last axis, is as long as that of
    the model, so that a distance means the same in models of different scales.
    Biases and the parameters of normalisations stay.

    Weights are put back as they were. It costs an `evaluate()` for each of
    `points` between two models, of `points ** 2` around one: give a part of
    the data.

    Args:
        model: A compiled model.
        x: As in `evaluate()`: arrays, or a dataset that holds the labels.
        y: As there.
        other: A model with weights of the same shapes, or what its
            `get_weights()` returned. Defaults to `None`: around one.
        losses: List of names in the logs of `evaluate()`. Defaults to `None`:
            the losses of all objectives, or `"loss"` where there is one.
        names: Pair of strings, what to call the two models.
        points: Integer of at least 2, along a direction. Defaults to `21`.
        span: Positive float, how far to go around one, in lengths of its
            filters. Defaults to `1.0`.
        seed: Integer, of the directions.
        batch_size: As in `evaluate()`.
        verbose: Whether to show a progress bar. Defaults to `0`.
        path: Where to save the picture. Defaults to `None`: nowhere.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: Without matplotlib.
        ValueError: If the weights of `other` have other shapes, or an argument
            is invalid.

    Example:

    ```python
    keras_mimo.plots.loss_landscape(
        joint, x, y, other=balanced, names=("joint", "balanced")
    )
    ```

    Reference:

    - [Visualizing the Loss Landscape of Neural Nets](
        https://arxiv.org/abs/1712.09913)
    """
    points = check_units("points", points)
    if points < 2:
        raise ValueError(
            f"`points` must be at least 2. Received: points={points}"
        )
    span = check_number("span", span)
    weights = _Weights(model)
    if other is None:
        steps = np.linspace(-span, span, points)
        directions = weights.random_directions(seed)
        places = [(a, b) for b in steps for a in steps]
    else:
        steps = np.linspace(-0.5, 1.5, points)
        directions = [weights.towards(other)]
        places = [(a,) for a in steps]

    bar = keras.utils.Progbar(len(places), verbose=verbose)
    found = []
    # Before anything is computed that could not be drawn.
    with styled(), weights:
        for place in places:
            weights.move(directions, place)
            logs = model.evaluate(
                x, y, batch_size=batch_size, verbose=0, return_dict=True
            )
            losses = _losses(logs) if losses is None else losses
            found.append([_log(logs, name) for name in losses])
            bar.add(1)
        values = dict(zip(losses, np.transpose(found), strict=True))
        if other is None:
            grids = {n: v.reshape(points, points) for n, v in values.items()}
            return finish(_draw_around(grids, steps), path)
        return finish(_draw_between(values, steps, names), path)


class _Weights:
    """The weights of a model, which move and come back."""

    def __init__(self, model):
        self._variables = [
            v for v in model.weights if keras.backend.is_float_dtype(v.dtype)
        ]
        self._model = model
        self._before = [ops.convert_to_numpy(v).copy() for v in self._variables]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for variable, value in zip(self._variables, self._before, strict=True):
            variable.assign(value)

    def move(self, directions, place):
        for index, (variable, value) in enumerate(
            zip(self._variables, self._before, strict=True)
        ):
            moved = value.astype("float64")
            for direction, distance in zip(directions, place, strict=True):
                moved = moved + distance * direction[index]
            variable.assign(moved.astype(value.dtype))

    def towards(self, other):
        """The difference of another model's weights and these."""
        if hasattr(other, "get_weights"):
            other = other.get_weights()
        shapes = [tuple(v.shape) for v in self._model.weights]
        given = [np.shape(value) for value in other]
        if given != shapes:
            raise ValueError(
                "`other` must have weights of the same shapes as `model`, "
                f"{shapes}. Received: shapes {given}"
            )
        others = {
            id(v): value
            for v, value in zip(self._model.weights, other, strict=True)
        }
        return [
            np.asarray(others[id(v)]).astype("float64") - value
            for v, value in zip(self._variables, self._before, strict=True)
        ]

    def random_directions(self, seed):
        """Two directions with filters as long as those of the model."""
        random = np.random.default_rng(seed)
        trainable = {id(v) for v in self._model.trainable_weights}
        return [
            [
                _as_long_as(value, random)
                if id(v) in trainable and value.ndim > 1
                else np.zeros(value.shape)
                for v, value in zip(self._variables, self._before, strict=True)
            ]
            for _ in range(2)
        ]


def _as_long_as(value, random):
    direction = random.normal(size=value.shape)
    axes = tuple(range(value.ndim - 1))

    def lengths(array):
        squares = array.astype("float64") ** 2
        return np.sqrt(squares.sum(axis=axes, keepdims=True))

    return direction * lengths(value) / lengths(direction)


def _losses(logs):
    found = [n for n in logs if n.endswith("_loss")]
    # Keras sorts what it logs.
    return sorted(found, key=lambda name: name != "fused_loss") or ["loss"]


def _log(logs, name):
    if name not in logs:
        raise ValueError(
            "`losses` must be names in the logs of `evaluate()`, which are "
            f"{list(logs)}. Received: {name!r}"
        )
    return float(logs[name])


def _titles(names):
    return {n: n.removesuffix("_loss") if n != "loss" else n for n in names}


def _draw_between(values, steps, names):
    figure = new_figure(8, 4.8)
    axis = figure.subplots()
    styles = line_styles(values)
    for name, heights in values.items():
        axis.plot(steps, heights, label=name, **styles[name])
    for place in (0, 1):
        axis.axvline(place, color="#999999", linewidth=1, zorder=0)
    axis.set_xticks([0, 1], names)
    axis.set(ylabel="loss", xlabel="weights on the line through both")
    plain(axis)
    axis.set_xlim(steps[0], steps[-1])
    name_ends(axis, _titles(values), styles)
    return figure


def _draw_around(grids, steps):
    figure = new_figure(1 + 4 * len(grids), 4)
    axes = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    titles = _titles(grids)
    for (name, grid), axis in zip(grids.items(), axes, strict=True):
        lowest, highest = np.nanmin(grid), np.nanmax(grid)
        # Closer to each other where it is low.
        levels = lowest + (highest - lowest) * np.linspace(0, 1, 13) ** 2
        if highest > lowest:
            image = axis.contourf(steps, steps, grid, levels, cmap="cividis")
            axis.contour(
                steps, steps, grid, levels, colors="white", linewidths=0.6
            )
            color_bar(figure, image, axis, format="%.3g")
        axis.plot(0, 0, "o", color="white", markeredgecolor="black")
        axis.set_title("loss" if name == "loss" else f"loss of {titles[name]}")
        axis.set_aspect("equal")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set_xlabel("first random direction")
    axes[0].set_ylabel("second random direction")
    return figure
