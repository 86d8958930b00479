"""Ten kinds of clothes, a hundred times as many of one as of another.

Fashion-MNIST with 1000 images of the first class and 10 of the last, in three
ways that differ in the arguments of `compile()`:

- cross-entropy, as plain Keras would;
- logit adjustment, the loss to beat on long tails;
- GBG over logit adjustment: classes are grouped by the directions of their
  gradients after five epochs, and each step descends for every group.

The test set has as many images of each class, so that its accuracy is balanced.
Nothing is selected by it. `benchmarks/long_tail.py` compares more methods.

Run `python examples/long_tail.py`, with KERAS_BACKEND set to tensorflow, jax or
torch. It takes one to four minutes on two cores. The data are those of the
Debian package `dataset-fashion-mnist`, or are downloaded by Keras.
"""

import argparse
import os
from pathlib import Path

# On a model this small more threads gain nothing. Read when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from matplotlib.figure import Figure

import keras_mimo
from keras_mimo.callbacks import RegroupClasses
from keras_mimo.losses import LogitAdjusted

CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
BATCH_SIZE = 64
METHODS = ("cross-entropy", "logit adjustment", "GBG")
# The palette of Okabe and Ito, safe for the colour-blind.
COLORS = {
    "cross-entropy": "#666666",
    "logit adjustment": "#D55E00",
    "GBG": "#0072B2",
}


def load(seed, path):
    train, test = keras_mimo.datasets.load_fashion_mnist_lt(
        imbalance_factor=0.01, max_count=1000, seed=seed, path=path
    )
    return [
        (x.reshape(len(x), -1).astype("float32") / 255, y.astype("int32"))
        for x, y in (train, test)
    ]


def train(method, seed, epochs, train_set):
    """The part to copy: a Keras model with three more arguments to compile."""
    x, y = train_set
    counts = keras_mimo.datasets.class_counts(y)
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(x.shape[1:])
    features = keras.layers.Dense(256, activation="relu")(inputs)
    features = keras.layers.Dense(128, activation="relu")(features)
    logits = keras.layers.Dense(len(counts))(features)

    model = keras_mimo.BalancedModel(inputs, logits)
    if method == "cross-entropy":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        loss = LogitAdjusted(counts)
    balancing = keras_mimo.gbg(num_groups=4) if method == "GBG" else {}
    callbacks = [RegroupClasses((x, y))] if method == "GBG" else []
    steps = epochs * -(-len(y) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss, **balancing)
    model.fit(
        x,
        y,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )
    return model, [grouping for r in callbacks for _, grouping in r.history]


def recalls(model, test_set):
    """The share of each class that is found."""
    x, y = test_set
    predicted = model.predict(x, batch_size=1000, verbose=0).argmax(-1)
    return [np.mean(predicted[y == c] == c) for c in range(len(CLASSES))]


def main():
    parser = argparse.ArgumentParser(
        description="Trains on a long tail, plainly and balanced."
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs a method")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--data", type=Path, help="folder of other files")
    parser.add_argument("--output", type=Path, default="long_tail_output")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.epochs < 6:
        parser.error("--seeds must be at least 1, and --epochs at least 6")
    arguments.output.mkdir(parents=True, exist_ok=True)

    results = {method: [] for method in METHODS}
    for seed in range(arguments.seeds):
        train_set, test_set = load(seed, arguments.data)
        for method in METHODS:
            model, found = train(method, seed, arguments.epochs, train_set)
            results[method].append(recalls(model, test_set))
            balanced = 100 * np.mean(results[method][-1])
            print(f"seed {seed}, {method}: {balanced:.1f} %", flush=True)
        for grouping in found:
            names = [[CLASSES[c] for c in group] for group in grouping.groups]
            print("groups: " + "; ".join(map(", ".join, names)))
    results = {method: np.array(runs) for method, runs in results.items()}
    print_table(results)
    picture = arguments.output / "long_tail.png"
    draw(results, np.bincount(train_set[1]), grouping, picture)
    print(f"\nRecall and affinity: {picture}")


# From here on nothing trains: what is left prints and draws.


def print_table(results):
    parts = {"balanced": slice(None), "head": slice(3)}
    parts |= {"medium": slice(3, 7), "tail": slice(7, None)}
    print("\n| accuracy in % | " + " | ".join(parts) + " |")
    print("| :--- |" + " ---: |" * len(parts))
    for method, runs in results.items():
        values = [100 * runs[:, part].mean(axis=1) for part in parts.values()]
        cells = [mean_and_spread(v) for v in values]
        print(f"| {method} | " + " | ".join(cells) + " |")


def mean_and_spread(values):
    spread = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def draw(results, counts, grouping, path):
    """Recall of each class by its size, and which classes agree."""
    figure = Figure((13, 5.6), dpi=150, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    keras_mimo.plots.recall_by_class(
        results, CLASSES, counts, colors=COLORS, figure=left
    )
    left.suptitle("Recall on the test set", fontsize=14)
    keras_mimo.plots.conflict_heatmap(
        grouping.affinity - 1, CLASSES, grouping.groups, figure=right
    )
    right.suptitle("Classes whose gradients agree, and groups", fontsize=14)
    figure.savefig(path)


if __name__ == "__main__":
    main()
