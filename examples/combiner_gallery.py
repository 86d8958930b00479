"""Every combiner at a glance: where it goes, and what it does to two tasks.

The picture has two parts. Both train a `BalancedModel`, and what differs from
one combiner to the next is one argument of `compile()`.

Paths: a model with a single weight, a point of the plane, and two quadratic
objectives that conflict, one of which is five times as large. The points that
cannot be improved in both are known: the Pareto set, a curve from one minimum
to the other. Plain gradient descent, so that a path is what the combiner says;
all have the same starts, steps and learning rates.

Two tasks: from the accelerometer of a smartwatch alone, which exercise is done
and how fast the wrist turns, which the gyroscope measured. The one loss is a
cross-entropy of about 1 and the other an error in degrees per second. Four of
the ten people are held out. Neither the net nor the optimizer was tuned for any
of the combiners, which keep their defaults: this shows how they behave, and is
no ranking.

Run `python examples/combiner_gallery.py`, with KERAS_BACKEND set to tensorflow,
jax or torch. On PyTorch it takes three to four minutes on one core.
"""

import argparse
import math
import os
import sys
import textwrap
import time
from pathlib import Path

# On a model this small more threads gain PyTorch nothing, and where other
# programs run too they make it ten times slower. It reads this when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import matplotlib
import numpy as np
from keras import layers
from keras import ops
from quickstart import machine
from quickstart import mean_and_spread

import keras_mimo
from keras_mimo import combiners
from keras_mimo.datasets import WATCH_CLASSES
from keras_mimo.datasets import load_watch

# Draws into files, so that no display is needed.
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator
from matplotlib.ticker import ScalarFormatter

# Left out: Krum tells outliers from a majority, of four objectives or more;
# GBlending weighs by what a callback measures; ExcessMTL and MoCo keep rows of
# a model's variables, which the paths have none of; GradNorm and PCD came after
# the picture.
FAMILIES = {
    "losses only": (
        combiners.SumCombiner,
        combiners.MeanCombiner,
        combiners.ConstantCombiner,
        combiners.MIMOCombiner,
        combiners.STCHCombiner,
        combiners.GLSCombiner,
        combiners.DWACombiner,
        combiners.RLWCombiner,
        combiners.UncertaintyCombiner,
        combiners.IMTLLCombiner,
        combiners.FAMOCombiner,
    ),
    "Gramian": (
        combiners.MGDACombiner,
        combiners.UPGradCombiner,
        combiners.DualProjCombiner,
        combiners.PCGradCombiner,
        combiners.GradVacCombiner,
        combiners.CAGradCombiner,
        combiners.ConFIGCombiner,
        combiners.IMTLGCombiner,
        combiners.AlignedMTLCombiner,
        combiners.NashMTLCombiner,
        combiners.FairGradCombiner,
        combiners.MMParetoCombiner,
    ),
    "coordinates": (
        combiners.GradDropCombiner,
        combiners.TrimmedMeanCombiner,
    ),
    "wrappers": (combiners.Smoothed, combiners.Rescaled, combiners.EveryN),
}


def label(cls):
    name = cls.__name__.removesuffix("Combiner")
    return f"{name}(MGDA)" if cls in FAMILIES["wrappers"] else name


CLASSES = {label(cls): cls for group in FAMILIES.values() for cls in group}
FAMILY = {label(cls): f for f, group in FAMILIES.items() for cls in group}
# The palette of Okabe and Ito, safe for the colour-blind.
COLORS = {
    "losses only": "#0072B2",
    "Gramian": "#D55E00",
    "coordinates": "#009E73",
    "wrappers": "#AA4499",
}


def make(name, scales):
    """A new combiner, with the arguments that it cannot do without.

    Args:
        name: One of `CLASSES`.
        scales: Dict from the objectives' names to how large their losses are.
    """
    cls = CLASSES[name]
    if cls is combiners.ConstantCombiner:
        return cls([1 / scale for scale in scales.values()])
    if cls is combiners.MIMOCombiner:
        # It has no fused objective here: the first takes its place.
        return cls(fused=next(iter(scales)))
    if cls in FAMILIES["wrappers"]:
        return cls(combiners.MGDACombiner())
    return cls()


# The paths.

SCALES = {"first": 1.0, "second": 5.0}
MINIMA = np.array([[-1.0, -0.5], [1.0, 0.5]], "float32")
# The least that a loss can be, over its scale: real ones do not reach 0.
FLOOR = 0.3
STARTS = ((-0.2, -1.9), (1.7, -1.3), (1.2, 1.9))
STEPS, LEARNING_RATE, EPOCH = 180, 0.12, 15


def curvature(angle, values=(1.0, 0.3)):
    """A matrix with these eigenvalues, the first along the angle."""
    cosine, sine = math.cos(angle), math.sin(angle)
    axes = np.array([[cosine, -sine], [sine, cosine]])
    return (axes @ np.diag(values) @ axes.T).astype("float32")


CURVATURES = np.stack([curvature(0.9), curvature(1.27)])


def objectives(points):
    """Both objectives at points, an array or tensor of shape `(..., 2)`."""
    points = ops.convert_to_tensor(points)
    values = []
    for scale, minimum, matrix in zip(
        SCALES.values(), MINIMA, CURVATURES, strict=True
    ):
        offset = points - ops.convert_to_tensor(minimum)
        squares = ops.sum(ops.matmul(offset, matrix) * offset, axis=-1)
        values.append(scale * (squares / 2 + FLOOR))
    return values


def minimizer(weights):
    """Where the weighted sum of the objectives is least."""
    weights = np.array(weights) * list(SCALES.values())
    matrix = np.einsum("k,kij->ij", weights, CURVATURES)
    return np.linalg.solve(
        matrix, np.einsum("k,kij,kj->i", weights, CURVATURES, MINIMA)
    )


def pareto_set(count=400):
    """Points from one minimum to the other that nothing improves in both."""
    shares = (1 - np.cos(np.linspace(0, np.pi, count))) / 2
    weights = np.stack([1 - shares, shares], axis=1) / list(SCALES.values())
    return np.array([minimizer(pair) for pair in weights])


class Plane(layers.Layer):
    """Its weight is a point, its outputs are the objectives there."""

    def build(self, input_shape):
        self.point = self.add_weight(name="point", shape=(2,))

    def call(self, ones):
        values = objectives(self.point)
        return {
            name: ones * value
            for name, value in zip(SCALES, values, strict=True)
        }


def output_itself(y_true, y_pred):
    return ops.mean(y_pred, axis=-1)


def plane_model(combiner, steps):
    """A model whose losses are the two objectives at its only weight."""
    inputs = keras.Input((1,))
    plane = Plane()
    model = keras_mimo.BalancedModel(inputs, plane(inputs))
    # The weights of some combiners do not shrink with the gradients.
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(
        keras.optimizers.SGD(rate), loss=output_itself, combiner=combiner
    )
    return model, plane


def trajectories(name, steps):
    """An array of shape `(starts, steps + 1, 2)`: where each path passes."""
    keras.utils.set_random_seed(0)
    model, plane = plane_model(make(name, SCALES), steps)
    model.combiner.build(list(SCALES))
    model.optimizer.build(model.trainable_variables)
    # One compilation serves all starts: what a run changes is put back.
    variables = [*model.variables, *model.optimizer.variables]
    fresh = [ops.convert_to_numpy(variable).copy() for variable in variables]
    paths = []
    for start in STARTS:
        for variable, value in zip(variables, fresh, strict=True):
            variable.assign(value)
        plane.point.assign(np.array(start, "float32"))
        paths.append(descend(model, plane, steps))
    return np.array(paths)


def descend(model, plane, steps):
    ones = np.ones((1, 1), "float32")
    targets = dict.fromkeys(SCALES, ones)
    path = [ops.convert_to_numpy(plane.point).copy()]
    for step in range(1, steps + 1):
        model.train_on_batch(ones, targets)
        if step % EPOCH == 0:
            # `fit()` would do this.
            model.combiner.on_epoch_end()
        path.append(ops.convert_to_numpy(plane.point).copy())
    return path


# The two tasks.

TASKS = ("exercise", "speed")
LOSSES = {
    "exercise": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "speed": "mae",
}


def load_tasks():
    """Accelerometer windows, and the labels of both tasks."""
    splits = load_watch(standardize=False)
    (x_train, _), _ = splits
    mean = x_train["accel"].mean(axis=(0, 1))
    std = x_train["accel"].std(axis=(0, 1))
    return [
        ((x["accel"] - mean) / std, {"exercise": y, "speed": speed(x["gyro"])})
        for x, y in splits
    ]


def speed(gyro):
    """How fast the wrist turns in a window: degrees per second, rms."""
    squares = (gyro**2).sum(axis=-1, keepdims=True).mean(axis=1)
    return np.degrees(np.sqrt(squares))


def constant_scores(train_set, test_set):
    """The scores of the best constant answers in training."""
    (_, y_train), (_, y_test) = train_set, test_set
    frequent = np.bincount(y_train["exercise"]).argmax()
    accuracy = np.mean(y_test["exercise"] == frequent)
    median = np.median(y_train["speed"])
    return 100 * accuracy, np.mean(np.abs(y_test["speed"] - median))


def task_model(tasks, y_train):
    """A small encoder of acceleration with a head for each of the tasks."""
    inputs = keras.Input((100, 3))
    x = layers.Conv1D(16, 7, strides=3, activation="relu")(inputs)
    x = layers.Conv1D(32, 5, strides=2, activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    # The net works in units of its own, the loss in those of the label.
    units = layers.Rescaling(
        float(y_train["speed"].std()), float(y_train["speed"].mean())
    )
    outputs = {
        "exercise": layers.Dense(len(WATCH_CLASSES))(x),
        "speed": units(layers.Dense(1)(x)),
    }
    return keras_mimo.BalancedModel(inputs, {t: outputs[t] for t in tasks})


def train(combiner, tasks, seed, epochs, train_set):
    keras.utils.set_random_seed(seed)
    x, y = train_set
    model = task_model(tasks, y)
    model.compile(
        keras.optimizers.Adam(3e-3),
        {task: LOSSES[task] for task in tasks},
        combiner=combiner,
    )
    y = {task: y[task] for task in tasks}
    model.fit(x, y, batch_size=160, epochs=epochs, verbose=0)
    return model


def score(model, test_set):
    """Accuracy in percent and error in degrees per second, by task."""
    x, y = test_set
    predicted = model.predict(x, batch_size=1024, verbose=0)
    scores = {}
    if "exercise" in predicted:
        right = predicted["exercise"].argmax(axis=-1) == y["exercise"]
        scores["exercise"] = 100 * right.mean()
    if "speed" in predicted:
        scores["speed"] = np.abs(predicted["speed"] - y["speed"]).mean()
    return scores


def two_task_scores(name, arguments, train_set, test_set):
    """An array of shape `(seeds, 2)`."""
    entropy = math.log(len(WATCH_CLASSES))
    deviation = float(train_set[1]["speed"].std())
    scales = dict(zip(TASKS, (entropy, deviation), strict=True))
    rows = []
    for seed in range(arguments.seeds):
        combiner = make(name, scales)
        model = train(combiner, TASKS, seed, arguments.epochs, train_set)
        scores = score(model, test_set)
        rows.append([scores[task] for task in TASKS])
    return np.array(rows)


def single_task_scores(arguments, train_set, test_set):
    """The same, of one net for each task."""
    columns = []
    for task in TASKS:
        models = [
            train(None, [task], seed, arguments.epochs, train_set)
            for seed in range(arguments.seeds)
        ]
        columns.append([score(model, test_set)[task] for model in models])
    return np.transpose(columns)


def main():
    arguments = parse()
    start = time.perf_counter()
    train_set, test_set = load_tasks()
    bar = keras.utils.Progbar(
        len(arguments.combiners),
        verbose=1 if sys.stdout.isatty() else 2,
        unit_name="combiner",
    )
    paths, scores = {}, {}
    for done, name in enumerate(arguments.combiners, 1):
        paths[name] = trajectories(name, arguments.steps)
        scores[name] = two_task_scores(name, arguments, train_set, test_set)
        bar.update(done)
    alone = single_task_scores(arguments, train_set, test_set)
    constant = constant_scores(train_set, test_set)
    print()
    print_table(paths, scores, alone, constant)
    print(f"{machine()}; {time.perf_counter() - start:.0f} s in all.")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    draw(paths, scores, alone, arguments.output)
    print(f"\nPicture: {arguments.output}")


def parse():
    parser = argparse.ArgumentParser(
        description="Draws what every combiner does, on two problems."
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the tasks")
    parser.add_argument("--epochs", type=int, default=6, help="of the tasks")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a path")
    parser.add_argument(
        "--combiners",
        nargs="+",
        choices=CLASSES,
        default=list(CLASSES),
        metavar="NAME",
        help=f"some of: {', '.join(CLASSES)}",
    )
    parser.add_argument(
        "--output", type=Path, default="combiner_gallery.png", help="picture"
    )
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.epochs, arguments.steps) < 1:
        parser.error("--seeds, --epochs and --steps must be at least 1")
    # In the order of the families, and each once.
    arguments.combiners = [n for n in CLASSES if n in arguments.combiners]
    return arguments


# From here on nothing trains: what is left prints and draws.


def on_pareto_set(ends, tolerance=0.05):
    """Which of the points, of shape `(count, 2)`, are on the Pareto set."""
    offsets = ends[:, None] - pareto_set()
    return np.linalg.norm(offsets, axis=-1).min(axis=1) < tolerance


def print_table(paths, scores, alone, constant):
    rows = [
        ["combiner", "family", "exercise, %", "speed, °/s", "paths that arrive"]
    ]
    for name, values in scores.items():
        cells = [mean_and_spread(column) for column in values.T]
        arrived = on_pareto_set(paths[name][:, -1])
        count = f"{arrived.sum()} of {len(arrived)}"
        rows.append([name, FAMILY[name], *cells, count])
    cells = [mean_and_spread(column) for column in alone.T]
    rows.append(["one net a task", "", *cells, ""])
    rows.append(["constant answer", "", *(f"{c:.1f}" for c in constant), ""])
    rows.insert(1, [":--", ":--", "--:", "--:", "--:"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            # Numbers to the right, and rules as long as their column.
            cell.replace("--", "-" * (width - 1))
            if "--" in cell
            else cell.rjust(width)
            if place > 1
            else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("|", " | ".join(cells), "|")
    over = f", mean ± standard deviation over {len(alone)} seeds"
    caption = (
        "Accuracy of the exercise and mean absolute error of the speed, on "
        f"people not seen in training{over if len(alone) > 1 else ''}. The "
        "last column counts the starts from which a path ends on the Pareto "
        "set."
    )
    print("\n" + textwrap.fill(caption, 88))


COLUMNS, DPI = 6, 90
# Of the scatter to the left of the baseline, in points of accuracy.
WIDTH = 16
INK = "#444444"


def draw(paths, scores, alone, path):
    plt.rcParams.update({"font.size": 11})
    rows = panel_rows(paths)
    heights = [2.15 * len(rows) + 1.1, 7.2]
    # The labels are placed by pixels.
    figure = plt.figure(
        figsize=(13, sum(heights)), dpi=DPI, layout="constrained"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    draw_paths(top, rows, paths)
    draw_scores(bottom, scores, alone)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def panel_rows(names):
    """The names in rows; the small families share the last one."""
    groups = (("losses only",), ("Gramian",), ("coordinates", "wrappers"))
    rows = []
    for families in groups:
        members = [name for name in names if FAMILY[name] in families]
        starts = range(0, len(members), COLUMNS)
        rows.extend(members[i : i + COLUMNS] for i in starts)
    return rows


def draw_paths(figure, rows, paths):
    axes = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        for axis in line[len(row) :]:
            axis.set_axis_off()
        for name, axis in zip(row, line, strict=False):
            draw_problem(axis)
            draw_panel(axis, paths[name], COLORS[FAMILY[name]])
            axis.set_title(
                name, color=COLORS[FAMILY[name]], weight="bold", pad=3
            )
    everywhere = sum(on_pareto_set(p[:, -1]).all() for p in paths.values())
    figure.suptitle(
        f"Paths over two objectives, the second five times as large: "
        f"{everywhere} of {len(paths)} combiners end on the Pareto set from "
        "every start",
        weight="bold",
        fontsize=13,
    )
    steps = len(next(iter(paths.values()))[0]) - 1
    figure.legend(
        handles=path_handles(),
        title=f"The same three starts and {steps} steps of gradient descent "
        "for all. Krum, which needs four objectives, is left out.",
        loc="outside lower center",
        ncols=5,
        frameon=False,
    )


def draw_problem(axis):
    """Contours of both objectives, their minima and the Pareto set."""
    ticks = np.linspace(-2.1, 2.1, 80, dtype="float32")
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    for values, scale, style in zip(
        objectives(grid), SCALES.values(), ("solid", "dashed"), strict=True
    ):
        heights = ops.convert_to_numpy(values) / scale - FLOOR
        axis.contour(
            ticks,
            ticks,
            heights,
            levels=[0.1, 0.4, 0.9, 1.6, 2.5],
            colors="#bbbbbb",
            linewidths=0.8,
            linestyles=style,
        )
    axis.plot(*pareto_set().T, color="#F0E442", linewidth=6, zorder=2)
    axis.plot(*pareto_set().T, color="black", linewidth=0.8, zorder=2)
    for name, minimum, side in zip("12", MINIMA, (-9, 9), strict=True):
        axis.annotate(
            name,
            minimum,
            (side, side / 2),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            color=INK,
        )
    axis.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), xticks=[], yticks=[])
    axis.set_aspect("equal")
    axis.spines[:].set_color("#cccccc")


def draw_panel(axis, paths, color):
    for path in paths:
        axis.plot(*path.T, color=color, linewidth=1.3, zorder=3)
        axis.plot(*path[0], "o", color=color, fillstyle="none", ms=6, zorder=4)
        axis.plot(*path[-1], "o", color=INK, mec="white", ms=8, zorder=5)


def path_handles():
    def line(label, **style):
        return Line2D([], [], label=label, **style)

    dot = {"color": INK, "marker": "o", "linestyle": "none"}
    return [
        line("first objective, minimum 1", color="#bbbbbb"),
        line("second, minimum 2", color="#bbbbbb", linestyle="dashed"),
        line("Pareto set", color="#F0E442", linewidth=6),
        line("start", fillstyle="none", **dot),
        line("end", **dot),
    ]


def draw_scores(figure, scores, alone):
    axis = figure.subplots()
    draw_baselines(axis, alone)
    means = {name: values.mean(axis=0) for name, values in scores.items()}
    # What is far worse is at the edge, and its label says how far.
    edge = alone[:, 0].mean() - WIDTH
    shown = {name: (max(a, edge), e) for name, (a, e) in means.items()}
    for name, values in scores.items():
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else (0, 0)
        outside = means[name][0] < edge
        axis.errorbar(
            *shown[name],
            xerr=None if outside else spread[0],
            yerr=spread[1],
            fmt="<" if outside else "o",
            ms=8,
            mec="white",
            color=COLORS[FAMILY[name]],
            ecolor=COLORS[FAMILY[name]] + "44",
        )
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 2.5, 3, 4, 5, 6)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.minorticks_off()
    errors = [error for _, error in means.values()]
    axis.set_xlim(left=edge - 0.3)
    axis.set_ylim(1.1 * max(errors), 0.88 * min(errors))
    axis.set(
        xlabel="exercise: accuracy, %",
        ylabel="speed of the wrist: error, °/s",
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#eeeeee")
    axis.set_axisbelow(True)
    figure.suptitle(finding(means, alone), weight="bold", fontsize=13)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=color, label=family)
        for family, color in COLORS.items()
    ]
    handles.append(
        Line2D([], [], color=INK, linestyle=":", label="one net a task")
    )
    figure.legend(
        handles=handles,
        title="Point: mean over seeds; bars and bands: standard deviation. "
        "What is out of range is at the left edge.",
        loc="outside lower center",
        ncols=5,
        frameon=False,
    )
    figure.canvas.draw()
    labels = {
        name: name if a >= edge else f"{name}: {a:.0f} %"
        for name, (a, _) in means.items()
    }
    label_points(axis, shown, labels)


def draw_baselines(axis, alone):
    for draw_line, draw_band, column in zip(
        (axis.axvline, axis.axhline),
        (axis.axvspan, axis.axhspan),
        alone.T,
        strict=True,
    ):
        draw_line(column.mean(), color=INK, linestyle=":")
        spread = column.std(ddof=1) if len(column) > 1 else 0
        draw_band(
            column.mean() - spread,
            column.mean() + spread,
            color="#000000",
            alpha=0.06,
            linewidth=0,
        )


def finding(means, alone):
    accuracy, error = alone.mean(axis=0)
    both = sum(a >= accuracy and e <= error for a, e in means.values())
    return (
        "Two tasks on people not seen in training (up and right is better): "
        f"{both} of {len(means)} combiners match one net a task at both"
    )


def label_points(axis, points, labels):
    """Puts each label where it covers no point and no other label."""
    pixels = {n: axis.transData.transform(p) for n, p in points.items()}
    renderer = axis.figure.canvas.get_renderer()
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in pixels.values()]
    for name, point in pixels.items():
        text = axis.annotate(
            labels[name],
            point,
            point,
            xycoords="figure pixels",
            textcoords="figure pixels",
            color=COLORS[FAMILY[name]],
            ha="center",
            va="center",
            fontsize=10,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={
                "arrowstyle": "-",
                "color": COLORS[FAMILY[name]],
                "linewidth": 0.6,
            },
        )
        box = text.get_window_extent(renderer)
        half = np.array([box.width, box.height]) / 2 + 1
        place = free_place(point, half, taken, axis.bbox.extents)
        text.set_position(place)
        taken.append((*(place - half), *(place + half)))


def free_place(point, half, taken, frame):
    """The nearest place for a box with these half widths, of many around."""
    for distance in range(8, 400, 6):
        for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
            direction = np.array([np.cos(angle), np.sin(angle)])
            place = point + direction * (half + distance)
            low, high = place - half, place + half
            inside = (low > frame[:2]).all() and (high < frame[2:]).all()
            if inside and not any(
                (low < box[2:]).all() and (high > box[:2]).all()
                for box in taken
            ):
                return place
    return point


if __name__ == "__main__":
    main()
