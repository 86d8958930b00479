"""What lambda and mu of MIMO trade, and where their defaults come from.

    make bench-data
    KERAS_BACKEND=jax python benchmarks/mimo_dial.py --output mimo_dial.json

`MIMOCombiner(penalty, smoothing)`, lambda and mu in the paper, on a grid,
cross-validated on the training parts of five open data sets; no test part is
used. The sets are those of `benchmarks/multimodal_sets.py`, and scikit-learn's
digits with the upper and the lower half of a picture as modalities. A fold
holds out a third of each class; of the watch data, two of the six people. The
score is balanced accuracy on it after the last epoch.

Each set is trained with late and with intermediate fusion (or by `--fusions
early`, one network on all inputs and `mask_modalities()`), by Adam at 1e-3 and
by SGD with momentum .9. The weights of the losses add up to 1 + lambda, and SGD
takes steps as long as they say: its rate is one of `RATES` over that sum, the
one with the better fused score for each pair, and for the sum of the losses
too. All of them start from the same weights and see the same batches.

The rule, fixed before the first run. A pair's score is its difference to the
sum of the losses, averaged over fusions and optimizers and then over sets;
standard errors are those over the sets, the only independent repetitions. Of
the pairs whose fused score is at most one standard error (of the difference)
below that of the best, the one with the best worst modality is chosen. The
present default stays if it is among those and its worst modality is at most one
standard error (of the difference) below that of the chosen one.
"""

import argparse
import itertools
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
from absent_inputs import FOLDS
from absent_inputs import fold_data
from fusion import FUSIONS
from fusion import balanced_accuracy
from keras import layers
from multimodal_sets import SETS
from multimodal_sets import split_off
from quickstart import machine

import keras_mimo

BATCH = 64
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
SMOOTHINGS = (0.01, 0.1, 1.0)
# Without a penalty smoothing does nothing: that is joint training.
JOINT = (0.0, 1.0)
SUM = "sum"
OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(),
    "SGD": lambda: keras.optimizers.SGD(momentum=0.9),
}
# Those of SGD by the sum of the losses on the first folds, of .01 to .3: above
# .1 watch and below .3 emoji learn little.
RATES = {"Adam": (1e-3,), "SGD": (0.1, 0.3)}


def load_digits():
    """Halves of pictures of digits; the test part is not used here."""
    from sklearn import datasets

    images, y = datasets.load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    x = {"upper": images[:, :32], "lower": images[:, 32:]}
    return split_off((x, y), 0.3, seed=0)


TASKS = {**SETS, "digits": SETS["mfeat"]._replace(load=load_digits)}


def fold_of(name, train, fold):
    """What is trained on, in whole batches, and what is held out."""
    if name == "watch":
        (x, y), held_out = fold_data(FOLDS[fold], standardize=True)
    else:
        (x, y), held_out = split_off(train, 1 / 3, seed=fold)
    random = np.random.default_rng(fold)
    chosen = random.permutation(len(y))[: len(y) // BATCH * BATCH]
    return ({k: v[chosen] for k, v in x.items()}, y[chosen]), held_out


def numbers(pair, modalities):
    """The penalty and the smoothing of a pair; those that give the sum."""
    return (modalities, 1e6) if pair == SUM else pair


def early(task, x):
    """One network on all inputs: on channels where all are series."""
    inputs = {k: keras.Input(v.shape[1:], name=k) for k, v in x.items()}
    series = all(v.ndim == 3 for v in x.values())
    flat = inputs.values() if series else map(layers.Flatten(), inputs.values())
    joined = layers.Concatenate()(list(flat))
    features = layers.Dense(64, activation="relu")
    if series:
        joined_shape = {"all": np.empty((1, *joined.shape[1:]))}
        features = task.encoders(joined_shape)["all"]
    outputs = layers.Dense(task.num_classes)(features(joined))
    return keras_mimo.mask_modalities(keras.Model(inputs, outputs))


def with_encoders(fuse):
    return lambda task, x: fuse(task.encoders(x), task.num_classes)


BUILDERS = {
    **{name: with_encoders(fuse) for name, fuse in FUSIONS.items()},
    "early": early,
}


class Dialled(keras_mimo.MIMOCombiner):
    """MIMO whose numbers are variables: one compiled step for all of them."""

    def build(self, objective_names):
        super().build(objective_names)
        self.penalty = self._number("penalty")
        self.smoothing = self._number("smoothing")

    def _number(self, name):
        return self.add_weight(shape=(), name=name, trainable=False)


class Trainer:
    """A model that is compiled once and trained many times, from one start."""

    def __init__(self, task, build, optimizer, x, seed):
        keras.utils.set_random_seed(seed)
        self.task, self.seed = task, seed
        self.optimizer = optimizer
        self.combiner = Dialled()
        self.model = build(task, x)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            combiner=self.combiner,
        )
        self.combiner.build(list(self.model.output))
        optimizer.build(self.model.trainable_variables)
        variables = [*self.model.variables, *optimizer.variables]
        self.start = [
            (v, np.array(keras.ops.convert_to_numpy(v))) for v in variables
        ]

    def scores(self, pair, rate, train, held_out):
        """The held-out balanced accuracy of each output."""
        x, y = train
        penalty, smoothing = numbers(pair, len(x))
        if isinstance(self.optimizer, keras.optimizers.SGD):
            rate /= 1 + penalty
        for variable, value in self.start:
            variable.assign(value)
        self.optimizer.learning_rate = rate
        self.combiner.penalty.assign(penalty)
        self.combiner.smoothing.assign(smoothing)
        # The order of the batches.
        keras.utils.set_random_seed(self.seed)
        self.model.fit(
            x, y, batch_size=BATCH, epochs=self.task.epochs, verbose=0
        )
        x, y = held_out
        logits = self.model.predict(x, batch_size=len(y), verbose=0)
        return {name: balanced_accuracy(z, y) for name, z in logits.items()}


def run(kept, save, name, task, fusions, pairs, folds):
    """Adds all scores of a set to what is kept, where they are not there."""
    train, _ = task.load()
    for fusion, kind, fold in itertools.product(fusions, RATES, range(folds)):
        keys = {
            (pair, rate): key(name, task, fusion, kind, rate, pair, fold)
            for pair in pairs
            for rate in RATES[kind]
        }
        missing = {k: v for k, v in keys.items() if v not in kept}
        if not missing:
            continue
        start = time.perf_counter()
        parts = fold_of(name, train, fold)
        trainer = Trainer(
            task, BUILDERS[fusion], OPTIMIZERS[kind](), parts[0][0], fold
        )
        for (pair, rate), place in missing.items():
            kept[place] = trainer.scores(pair, rate, *parts)
        save()
        seconds = time.perf_counter() - start
        print(
            f"{name}, {fusion}, {kind}, fold {fold}: {len(missing)} runs, "
            f"{seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def key(name, task, fusion, kind, rate, pair, fold):
    dial = pair if pair == SUM else "{:g}/{:g}".format(*pair)
    return f"{name}/{fusion}/{kind}/{rate:g}/{dial}/{task.epochs}/{fold}"


def fused_and_worst(kept, name, task, fusion, kind, pair, folds):
    """Means over folds, in %, at the rate that is better for `fused`."""
    best = None
    for rate in RATES[kind]:
        runs = [
            kept[key(name, task, fusion, kind, rate, pair, fold)]
            for fold in range(folds)
        ]
        means = {k: 100 * np.mean([r[k] for r in runs]) for k in runs[0]}
        fused = means.pop("fused")
        if best is None or fused > best[0]:
            best = fused, min(means.values())
    return best


def all_scores(kept, tasks, fusions, pairs, folds):
    """From a pair to an array: sets, fusions, optimizers, fused and worst."""
    shape = len(tasks), len(fusions), len(RATES), 2
    scores = {}
    for pair in pairs:
        cells = [
            fused_and_worst(kept, name, task, fusion, kind, pair, folds)
            for name, task in tasks.items()
            for fusion in fusions
            for kind in RATES
        ]
        scores[pair] = np.reshape(cells, shape)
    return scores


def standard_error(values):
    if len(values) == 1:
        return 0.0
    return np.std(values, ddof=1) / np.sqrt(len(values))


def not_worse(values, others):
    """Whether at most one standard error below the others, paired."""
    gap = values - others
    return gap.mean() >= -standard_error(gap)


def choose(by_set, default):
    """The pair that the rule chooses, those it is level with, the verdict.

    Args:
        by_set: Dict from pairs to arrays of shape `(sets, 2)`: the difference
            in the fused score and in the worst modality.
        default: The pair that is the default now.
    """
    best = max(by_set, key=lambda pair: by_set[pair][:, 0].mean())
    level = [
        pair
        for pair in by_set
        if not_worse(by_set[pair][:, 0], by_set[best][:, 0])
    ]
    chosen = max(level, key=lambda pair: by_set[pair][:, 1].mean())
    stays = default in level and not_worse(
        by_set[default][:, 1], by_set[chosen][:, 1]
    )
    return best, level, chosen, stays


def label(pair):
    return "{:g} / {:g}".format(*pair)


def cell(values):
    return f"{values.mean():+.1f} ± {standard_error(values):.1f}"


def print_table(titles, rows):
    print("| " + " | ".join(titles) + " |")
    print("| :--- " + "| ---: " * (len(titles) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_tables(scores, names, fusions, default):
    ways = list(itertools.product(fusions, RATES))
    heads = [f"{fusion}, {kind}" for fusion, kind in ways]
    usual = scores[SUM]
    cells = [
        [f"{fused:.1f} / {worst:.1f}" for fused, worst in row]
        for row in usual.reshape(len(names), len(ways), 2)
    ]
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    print_table(["sum: fused / worst modality", *heads], rows)

    gains = {pair: s - usual for pair, s in scores.items() if pair != SUM}
    by_set = {pair: gain.mean(axis=(1, 2)) for pair, gain in gains.items()}
    titles = ["lambda / mu", "fused", "lowest set"]
    rows = []
    for pair, gain in by_set.items():
        row = ["joint" if pair == JOINT else label(pair)]
        for values in gain.T:
            low = values.argmin()
            row += [cell(values), f"{values[low]:+.1f} ({names[low]})"]
        rows.append(row)
    print_table([*titles, "worst modality", "lowest set"], rows)

    rows = [
        [first, *map(cell, gain[..., 0].reshape(len(names), -1).T)]
        for (first, *_), gain in zip(rows, gains.values(), strict=True)
    ]
    print_table(["fused", *heads], rows)

    del by_set[JOINT]
    best, level, chosen, stays = choose(by_set, default)
    print(
        f"best fused score: {label(best)}; level with it: "
        f"{', '.join(map(label, level))}; of these the best worst modality: "
        f"{label(chosen)}; the present default, {label(default)}: "
        f"{'stays' if stays else 'goes'}"
    )
    # How much one set decides: looked at after the first run.
    for place, name in enumerate(names if len(names) > 1 else ()):
        fewer = {k: np.delete(v, place, axis=0) for k, v in by_set.items()}
        print(f"without {name} it would be {label(choose(fewer, default)[2])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument(
        "--fusions", nargs="+", choices=BUILDERS, default=list(FUSIONS)
    )
    parser.add_argument("--penalties", nargs="+", type=float, default=PENALTIES)
    parser.add_argument(
        "--smoothings", nargs="+", type=float, default=SMOOTHINGS
    )
    parser.add_argument(
        "--folds", type=int, default=len(FOLDS), choices=range(1, 4)
    )
    parser.add_argument("--epochs", type=int, help="instead of the sets' own")
    parser.add_argument(
        "--output", type=Path, help="file of the runs, taken up again"
    )
    arguments = parser.parse_args()
    start = time.perf_counter()
    combiner = keras_mimo.MIMOCombiner()
    default = combiner.penalty, combiner.smoothing
    grid = itertools.product(arguments.penalties, arguments.smoothings)
    pairs = list(dict.fromkeys([SUM, JOINT, *grid, default]))
    tasks = {name: TASKS[name] for name in arguments.sets}
    if arguments.epochs:
        tasks = {
            name: task._replace(epochs=arguments.epochs)
            for name, task in tasks.items()
        }
    kept = {}
    if arguments.output and arguments.output.exists():
        kept = json.loads(arguments.output.read_text())

    def save():
        if arguments.output:
            arguments.output.write_text(json.dumps(kept))

    for name, task in tasks.items():
        run(kept, save, name, task, arguments.fusions, pairs, arguments.folds)
    print(
        f"{machine()}\nBalanced accuracy in %, and differences to the sum of "
        "the losses in points, mean ± standard error over sets; "
        f"{arguments.folds} folds, seeds 0 to {arguments.folds - 1}\n"
    )
    scores = all_scores(kept, tasks, arguments.fusions, pairs, arguments.folds)
    print_tables(scores, list(tasks), arguments.fusions, default)
    print(f"\n{time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
