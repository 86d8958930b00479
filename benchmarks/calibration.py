"""What calibrated scales do for a fused output, on real data.

    make bench-data
    KERAS_BACKEND=jax python benchmarks/calibration.py

The models of `benchmarks/fusion.py`, trained on what is left when a fifth of
the training part is held out (watch: two of six people), and
`calibrate_fusion()` on that. On the test part after the last epoch, mean ±
standard deviation over seeds: balanced accuracy of the fused output as it was,
calibrated, and of the best modality alone (by means over the seeds), and the
log loss of the fused output before and after. Nothing is selected. With
`--picture FILE` the accuracies are drawn too.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from fusion import FUSIONS
from fusion import METHODS
from fusion import balanced_accuracy
from multimodal_sets import SETS
from quickstart import machine
from quickstart import mean_and_spread

import keras_mimo

TITLES = ("fused", "calibrated", "best alone", "log loss", "calibrated")


def log_loss(logits, y):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return float(loss(y, logits))


def run(data, parts, fuse, combiner, seed, epochs):
    """Scores by output, and of the calibrated fused output."""
    (x, y), held_out, (x_test, y_test) = parts
    keras.utils.set_random_seed(seed)
    model = fuse(data.encoders(x), data.num_classes)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=combiner,
    )
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)

    outputs = model.predict(x_test, batch_size=256, verbose=0)
    keras_mimo.calibrate_fusion(model, *held_out, verbose=0)
    calibrated = model.predict(x_test, batch_size=256, verbose=0)["fused"]
    accuracy = {k: balanced_accuracy(z, y_test) for k, z in outputs.items()}
    return {
        "accuracy": accuracy,
        "calibrated": balanced_accuracy(calibrated, y_test),
        "log loss": log_loss(outputs["fused"], y_test),
        "log loss calibrated": log_loss(calibrated, y_test),
    }


def row(runs):
    """The cells of `TITLES`, over seeds."""
    names = [name for name in runs[0]["accuracy"] if name != "fused"]
    accuracy = {
        name: [100 * r["accuracy"][name] for r in runs]
        for name in ["fused", *names]
    }
    best = max(names, key=lambda name: np.mean(accuracy[name]))
    return [
        mean_and_spread(accuracy["fused"]),
        mean_and_spread([100 * r["calibrated"] for r in runs]),
        f"{mean_and_spread(accuracy[best])} ({best})",
        f"{np.mean([r['log loss'] for r in runs]):.2f}",
        f"{np.mean([r['log loss calibrated'] for r in runs]):.2f}",
    ]


def draw(results, path):
    """One panel a set, one line a model: before, after, and best alone."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 12})
    figure, axes = plt.subplots(
        1,
        len(results),
        figsize=(3 * len(results) + 1.5, 3.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    marks = {
        "best modality alone": {"marker": "|", "s": 220, "color": "#666666"},
        "fused": {"marker": "o", "facecolors": "none", "color": "#0072B2"},
        "fused, calibrated": {"marker": "o", "color": "#0072B2"},
    }
    for axis, (name, rows) in zip(axes[0], results.items(), strict=True):
        for place, runs in enumerate(rows.values()):
            names = [n for n in runs[0]["accuracy"] if n != "fused"]
            alone = [np.mean([r["accuracy"][n] for r in runs]) for n in names]
            fused = np.mean([r["accuracy"]["fused"] for r in runs])
            after = np.mean([r["calibrated"] for r in runs])
            values = 100 * np.array([max(alone), fused, after])
            axis.plot(values[1:], [place] * 2, color="#0072B2", linewidth=2)
            for value, (label, style) in zip(
                values, marks.items(), strict=True
            ):
                style = {"s": 70, "linewidths": 2, "zorder": 3, **style}
                axis.scatter(
                    value, place, label=None if place else label, **style
                )
        axis.set_title(name)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.grid(axis="x", color="#dddddd")
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(length=0)
        axis.margins(x=0.15, y=0.1)
    axes[0, 0].invert_yaxis()
    figure.supxlabel("balanced accuracy on the test part, %", fontsize=12)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        frameon=False,
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--epochs", type=int, help="instead of the sets' own")
    parser.add_argument(
        "--output", type=Path, help="file of the runs, taken up again"
    )
    parser.add_argument("--picture", type=Path, help="file to draw")
    arguments = parser.parse_args()
    start = time.perf_counter()
    kept = {}
    if arguments.output and arguments.output.exists():
        kept = json.loads(arguments.output.read_text())
    results = {name: {} for name in arguments.sets}
    for name in arguments.sets:
        data = SETS[name]
        epochs = arguments.epochs or data.epochs
        parts = [data.three_parts(seed) for seed in range(arguments.seeds)]
        print(f"\n| {name} | " + " | ".join(TITLES) + " |")
        print("| :--- " + "| ---: " * len(TITLES) + "|")
        for fusion, fuse in FUSIONS.items():
            for method, combiner in METHODS.items():
                runs = []
                for seed in range(arguments.seeds):
                    key = f"{name}/{fusion}/{method}/{epochs}/{seed}"
                    if key not in kept:
                        kept[key] = run(
                            data, parts[seed], fuse, combiner(), seed, epochs
                        )
                        if arguments.output:
                            arguments.output.write_text(json.dumps(kept))
                    runs.append(kept[key])
                results[name][f"{fusion}, {method}"] = runs
                cells = " | ".join(row(runs))
                print(f"| {fusion}, {method} | {cells} |", flush=True)
    if arguments.picture:
        draw(results, arguments.picture)
    print(f"\n{machine()}; {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
