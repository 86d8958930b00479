"""When the weights of objectives matter: one factor, two optimizers.

    KERAS_BACKEND=jax python benchmarks/weights_cancel.py

Late fusion of the watch data, as in `examples/quickstart.py`, where encoders
share nothing. The weights of the sensors' own losses are multiplied by a factor
`c`, that of the fused loss stays 1. Printed and drawn, for Adam and for SGD at
learning rates that stay fixed: the length of the encoders' update, as a
multiple of that at `c = 1` from the same weights on the same batches, averaged
over the first steps; and the accuracy of the sensors alone after training, the
mean of both, on people not seen in training. Mean and range over seeds. Nothing
is selected.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import matplotlib
import numpy as np
from quickstart import SENSORS
from quickstart import encoders
from quickstart import machine
from quickstart import mean_and_spread

import keras_mimo
from keras_mimo.datasets import WATCH_CLASSES
from keras_mimo.datasets import load_watch

# Draws into files, so that no display is needed.
matplotlib.use("Agg")
import matplotlib.pyplot as plt

FACTORS = (0.1, 1.0, 10.0, 100.0)
OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(1e-3),
    "SGD": lambda: keras.optimizers.SGD(1e-2),
}
# The palette of Okabe and Ito, safe for the colour-blind.
STYLES = {
    "Adam": {"color": "#0072B2", "marker": "o"},
    "SGD": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
}
BATCH = 64
STEPS = 10


def run(optimizer, factor, seed, epochs, train_set, test_set):
    """Lengths of the encoders' first updates, and the sensors' accuracy."""
    keras.utils.set_random_seed(seed)
    model = keras_mimo.late_fusion(encoders(), num_classes=len(WATCH_CLASSES))
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.ConstantCombiner(
            {"fused": 1.0, **dict.fromkeys(SENSORS, factor)}
        ),
    )
    x, y = train_set
    order = np.random.default_rng(seed).permutation(len(y))
    variables = [v for own in model.encoder_variables.values() for v in own]
    lengths = []
    for rows in order[: STEPS * BATCH].reshape(STEPS, BATCH):
        before = flat(variables)
        model.train_on_batch({k: v[rows] for k, v in x.items()}, y[rows])
        lengths.append(np.linalg.norm(flat(variables) - before))
    # Whole batches only: one shape, compiled once.
    rows = order[: len(y) // BATCH * BATCH]
    x = {name: values[rows] for name, values in x.items()}
    model.fit(x, y[rows], batch_size=BATCH, epochs=epochs, verbose=0)
    x, y = test_set
    logits = model.predict(x, batch_size=256, verbose=0)
    hits = [np.mean(logits[name].argmax(-1) == y) for name in SENSORS]
    return np.mean(lengths), 100 * np.mean(hits)


def flat(variables):
    return np.concatenate(
        [np.ravel(keras.ops.convert_to_numpy(v)) for v in variables]
    )


def draw(lengths, accuracies, path):
    """One panel for the updates, one for what they lead to."""
    plt.rcParams.update({"font.size": 13, "axes.titlesize": 14})
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    panels = (
        (
            lengths,
            "Length of the encoders' update",
            "multiple of that at c = 1",
        ),
        (accuracies, "Sensors alone, after training", "accuracy, %"),
    )
    for axis, (values, title, unit) in zip(axes, panels, strict=True):
        for kind, runs in values.items():
            style = STYLES[kind]
            axis.fill_between(
                FACTORS,
                runs.min(0),
                runs.max(0),
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
            axis.plot(FACTORS, runs.mean(0), linewidth=2.5, **style)
            axis.annotate(
                f"  {kind}",
                (FACTORS[-1], runs[:, -1].mean()),
                (6, 0),
                textcoords="offset points",
                verticalalignment="center",
                color=style["color"],
                weight="bold",
            )
        axis.set_xscale("log")
        axis.set_xticks(FACTORS, [f"{c:g}" for c in FACTORS])
        axis.minorticks_off()
        axis.set_title(title, loc="left")
        axis.set(xlabel="factor c on the sensors' losses", ylabel=unit)
        axis.grid(axis="y", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[1].set_ylim(0, 100)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--picture", type=Path, default=Path("weights_cancel.png")
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    data = load_watch()
    results = {
        kind: np.array(
            [
                [
                    run(make(), factor, seed, arguments.epochs, *data)
                    for factor in FACTORS
                ]
                for seed in range(arguments.seeds)
            ]
        )
        for kind, make in OPTIMIZERS.items()
    }
    usual = FACTORS.index(1.0)
    lengths = {k: r[..., 0] / r[:, usual, None, 0] for k, r in results.items()}
    accuracies = {k: r[..., 1] for k, r in results.items()}
    print(f"{machine()}\n{arguments.seeds} seeds\n")
    print("| factor | " + " | ".join(f"{c:g}" for c in FACTORS) + " |")
    print("| :--- " + "| ---: " * len(FACTORS) + "|")
    for kind, values in lengths.items():
        cells = [f"{np.mean(v):.2f}" for v in values.T]
        print(f"| {kind}, length of the update | " + " | ".join(cells) + " |")
    for kind, values in accuracies.items():
        cells = map(mean_and_spread, values.T)
        print(f"| {kind}, sensors alone, % | " + " | ".join(cells) + " |")
    draw(lengths, accuracies, arguments.picture)
    print(f"\n{time.perf_counter() - start:.0f} s. {arguments.picture}")


if __name__ == "__main__":
    main()
