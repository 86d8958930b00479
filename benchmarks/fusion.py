"""Late and intermediate fusion side by side, on real data.

    make bench-data
    KERAS_BACKEND=jax python benchmarks/fusion.py

Both with the encoders of `benchmarks/multimodal_sets.py`, trained jointly, on
the sum of the losses and by MIMO at its defaults. Balanced accuracy on the
held-out part after the last epoch, mean ± standard deviation over seeds: of the
fused output, of the best and the worst modality alone, by means over the seeds,
and of the fused output where the modality is lost that it misses most (its
input is zeros, the training mean of standardised data). Nothing is selected.
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
from multimodal_sets import SETS
from quickstart import machine
from quickstart import mean_and_spread

import keras_mimo

FUSIONS = {
    "late": keras_mimo.late_fusion,
    "intermediate": keras_mimo.intermediate_fusion,
}
METHODS = {
    "joint": lambda: None,
    "sum": keras_mimo.SumCombiner,
    "MIMO": keras_mimo.MIMOCombiner,
}
TITLES = ("fused", "best alone", "worst alone", "one lost")


def balanced_accuracy(logits, y):
    hits = logits.argmax(axis=-1) == y
    return float(np.mean([hits[y == c].mean() for c in np.unique(y)]))


def run(data, fuse, combiner, seed):
    """Balanced accuracies by output, and of `fused` by what is lost."""
    (x, y), (x_test, y_test) = data.loaded
    keras.utils.set_random_seed(seed)
    model = fuse(data.encoders(x), data.num_classes)
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=combiner,
    )
    model.fit(x, y, batch_size=64, epochs=data.epochs, verbose=0)

    def scores(x):
        outputs = model.predict(x, batch_size=256, verbose=0)
        return {k: balanced_accuracy(z, y_test) for k, z in outputs.items()}

    lost = {
        name: scores({**x_test, name: np.zeros_like(x_test[name])})["fused"]
        for name in x_test
    }
    return {"alone": scores(x_test), "lost": lost}


class Loaded:
    """A set, read once."""

    def __init__(self, data):
        self.loaded = data.load()
        self.encoders = data.encoders
        self.num_classes = data.num_classes
        self.epochs = data.epochs


def row(runs):
    """The cells of `TITLES`, over seeds."""
    names = [name for name in runs[0]["alone"] if name != "fused"]
    alone = {n: [100 * r["alone"][n] for r in runs] for n in names}
    ordered = sorted(names, key=lambda name: np.mean(alone[name]))
    lost = {n: [100 * r["lost"][n] for r in runs] for n in names}
    missed = min(names, key=lambda name: np.mean(lost[name]))
    fused = [100 * r["alone"]["fused"] for r in runs]
    return [
        mean_and_spread(fused),
        f"{mean_and_spread(alone[ordered[-1]])} ({ordered[-1]})",
        f"{mean_and_spread(alone[ordered[0]])} ({ordered[0]})",
        f"{mean_and_spread(lost[missed])} ({missed})",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--epochs", type=int, help="instead of the sets' own")
    parser.add_argument(
        "--output", type=Path, help="file of the runs, taken up again"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    kept = {}
    if arguments.output and arguments.output.exists():
        kept = json.loads(arguments.output.read_text())
    for name in arguments.sets:
        data = Loaded(SETS[name])
        data.epochs = arguments.epochs or data.epochs
        print(f"\n| {name} | " + " | ".join(TITLES) + " |")
        print("| :--- " + "| ---: " * len(TITLES) + "|")
        for fusion, fuse in FUSIONS.items():
            for method, combiner in METHODS.items():
                runs = []
                for seed in range(arguments.seeds):
                    key = f"{name}/{fusion}/{method}/{data.epochs}/{seed}"
                    if key not in kept:
                        kept[key] = run(data, fuse, combiner(), seed)
                        if arguments.output:
                            arguments.output.write_text(json.dumps(kept))
                    runs.append(kept[key])
                cells = " | ".join(row(runs))
                print(f"| {fusion}, {method} | {cells} |", flush=True)
    print(f"\n{machine()}; {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
