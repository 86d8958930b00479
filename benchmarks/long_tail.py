"""Balanced accuracy on long-tailed data: GBG beside what its users compare.

    KERAS_BACKEND=jax python benchmarks/long_tail.py
    KERAS_BACKEND=torch python benchmarks/long_tail.py --seeds 2 --methods CE LA

Fashion-MNIST-LT (at most 1000 images a class, imbalance factor 0.01) in two
orders of the classes, since the last classes of the usual order are its
easiest; and the nouns of WordNet, 26 kinds with a natural tail. A small network
and small batches, in which the tail is rare: what comes out for large ones may
differ. Head, medium and tail are the largest three tenths of the classes, the
next four and the last three.

Every method starts from the same weights, sees the same batches and ends after
the same number of epochs. Nothing is chosen by the test set here; the settings
are those of ALGORITHMS.md 8, or the defaults.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.model_selection import train_test_split
from step_cost import machine

import keras_mimo
from keras_mimo import combiners
from keras_mimo import losses
from keras_mimo.callbacks import RegroupClasses
from keras_mimo.datasets.wordnet import load_wordnet_nouns
from keras_mimo.objectives import ClassGroups

WARM_UP = 5
NUM_GROUPS = 4
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclasses.dataclass
class Task:
    """Data with a long tail, and how it is trained.

    Args:
        name: Title.
        train: Tuple of inputs and class ids.
        test: The same, of a balanced set.
        batch_size: Integer.
        epochs: Integer.
    """

    name: str
    train: tuple
    test: tuple
    batch_size: int = 64
    epochs: int = 60

    @property
    def counts(self):
        return np.bincount(self.train[1])

    def model(self, cls, seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(self.train[0].shape[1:])
        x = layers.Dense(256, activation="relu", name="first")(inputs)
        x = layers.Dense(128, activation="relu", name="second")(x)
        return cls(inputs, layers.Dense(len(self.counts), name="classifier")(x))


def fashion(name, class_order, seed):
    train, test = keras_mimo.datasets.load_fashion_mnist_lt(
        0.01, class_order=class_order, max_count=1000, seed=seed
    )
    flat = [
        (x.reshape(len(x), -1).astype("float32") / 255, y.astype("int32"))
        for x, y in (train, test)
    ]
    return Task(name, *flat)


def wordnet(seed):
    """Kinds of nouns from their words and glosses, a natural tail."""
    words, glosses, y = load_wordnet_nouns()
    texts = [f"{w}. {gloss}" for w, gloss in zip(words, glosses, strict=True)]
    hashing = HashingVectorizer(n_features=1024, alternate_sign=False)
    x = hashing.transform(texts).toarray().astype("float32")
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=seed
    )
    return Task("wordnet", (x_train, y_train), (x_test, y_test), 256, 10)


TASKS = {
    "fashion": lambda seed: fashion("fashion", None, seed),
    "fashion-reversed": lambda seed: fashion(
        "fashion-reversed", list(range(9, -1, -1)), seed
    ),
    "wordnet": wordnet,
}


@dataclasses.dataclass
class Method:
    """How a model is trained.

    Args:
        name: Title.
        loss: Function of the class counts that returns a loss.
        combiner: Function that returns a combiner, or `None`: plain Keras.
        groups: Function of a task and a seed that returns groups, or `None`:
            they are found from gradients after the warm-up.
    """

    name: str
    loss: Callable
    combiner: Callable | None = None
    groups: Callable | None = None
    regroup_every: int | None = None

    def train(self, task, seed):
        balanced = self.combiner is not None
        cls = keras_mimo.BalancedModel if balanced else keras.Model
        model = task.model(cls, seed)
        callbacks = []
        arguments = {}
        if balanced:
            arguments = {
                "objectives": ClassGroups(num_groups=NUM_GROUPS),
                "combiner": self.combiner(),
                "balanced_variables": "backbone",
            }
            if self.groups is None:
                callbacks = [
                    RegroupClasses(
                        task.train, start=WARM_UP, every=self.regroup_every
                    )
                ]
            else:
                callbacks = [AssignGroups(self.groups(task, seed))]
        model.compile(
            keras.optimizers.Adam(1e-3), self.loss(task.counts), **arguments
        )
        model.fit(
            *task.train,
            batch_size=task.batch_size,
            epochs=task.epochs,
            callbacks=callbacks,
            verbose=0,
        )
        return model


class AssignGroups(keras.callbacks.Callback):
    """Groups that are known, from the same epoch on as those that are found."""

    def __init__(self, groups):
        super().__init__()
        self._groups = groups

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == WARM_UP:
            self.model.objectives.assign_groups(self._groups)


def cross_entropy(counts):
    return CE


def random_groups(task, seed):
    classes = np.random.default_rng(seed).permutation(len(task.counts))
    return [part.tolist() for part in np.array_split(classes, NUM_GROUPS)]


def frequency_groups(task, seed):
    classes = np.argsort(-task.counts, kind="stable")
    return [part.tolist() for part in np.array_split(classes, NUM_GROUPS)]


def mgda(**arguments):
    return lambda: keras_mimo.MGDACombiner(**arguments)


def steady(combiner):
    """With the Gramian averaged, and a step of the mean gradient's length."""

    def make():
        smoothed = combiners.Smoothed(combiner(), of="gramian")
        return combiners.Rescaled(smoothed)

    return make


def published(mode):
    return mgda(normalization="loss+", mode=mode)


METHODS = [
    Method("CE", cross_entropy),
    Method("class-balanced", losses.ClassBalanced),
    Method("balanced softmax", losses.BalancedSoftmax),
    Method("LA", losses.LogitAdjusted),
    Method("GBG published, CE", cross_entropy, published("reference")),
    Method("GBG corrected, CE", cross_entropy, published("corrected")),
    Method(
        "GBG steady, CE", cross_entropy, steady(mgda(normalization="loss+"))
    ),
    Method(
        "GBG steady, LA",
        losses.LogitAdjusted,
        steady(mgda(normalization="loss+")),
    ),
    Method(
        "GBG steady l2, LA",
        losses.LogitAdjusted,
        steady(mgda(normalization="l2")),
    ),
    Method(
        "GBG steady, LA, regrouped",
        losses.LogitAdjusted,
        steady(mgda(normalization="loss+")),
        regroup_every=10,
    ),
    Method(
        "random groups, LA",
        losses.LogitAdjusted,
        steady(mgda(normalization="loss+")),
        random_groups,
    ),
    Method(
        "frequency groups, LA",
        losses.LogitAdjusted,
        steady(mgda(normalization="loss+")),
        frequency_groups,
    ),
    Method(
        "UPGrad steady, LA",
        losses.LogitAdjusted,
        steady(combiners.UPGradCombiner),
    ),
    Method("mean of groups, LA", losses.LogitAdjusted, keras_mimo.MeanCombiner),
]


def scores(model, task):
    """Recall of every class on the test set."""
    x, y = task.test
    predicted = np.argmax(model.predict(x, batch_size=1000, verbose=0), axis=-1)
    return [float(np.mean(predicted[y == c] == c)) for c in np.unique(y)]


def summary(task, recalls):
    """Balanced accuracy, and that of the head, the middle and the tail."""
    order = np.argsort(-task.counts, kind="stable")
    first, last = (round(len(order) * share) for share in (0.3, 0.7))
    parts = {
        "balanced": order,
        "head": order[:first],
        "medium": order[first:last],
        "tail": order[last:],
    }
    recalls = np.array(recalls)
    return {name: recalls[:, part].mean(axis=1) for name, part in parts.items()}


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Balanced accuracy of methods for long-tailed data."
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    names = [method.name for method in METHODS]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int)
    parser.add_argument(
        "--output", type=Path, default=Path("long_tail_results.json")
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    report = {"machine": machine(), "results": []}
    print(" · ".join(str(value) for value in report["machine"].values()))
    for task_name in options.tasks:
        print(f"\n### {task_name}, {options.seeds} seeds, accuracy in %\n")
        titles = ["method", "balanced", "head", "medium", "tail", "seconds"]
        print("| " + " | ".join(titles) + " |")
        print("| --- |" + " ---: |" * 5)
        for method in METHODS:
            if method.name in options.methods:
                result = run(method, task_name, options)
                report["results"].append(result)
                print(row(result), flush=True)
                options.output.write_text(json.dumps(report, indent=2) + "\n")


def run(method, task_name, options):
    recalls = []
    start = time.perf_counter()
    for seed in range(options.seeds):
        keras.utils.clear_session()
        task = TASKS[task_name](seed)
        if options.epochs:
            task.epochs = options.epochs
        recalls.append(scores(method.train(task, seed), task))
    seconds = (time.perf_counter() - start) / options.seeds
    return {
        "task": task_name,
        "method": method.name,
        "recalls": recalls,
        "counts": task.counts.tolist(),
        "seconds": seconds,
        "summary": {k: v.tolist() for k, v in summary(task, recalls).items()},
    }


def row(result):
    cells = [result["method"]]
    for values in result["summary"].values():
        values = 100 * np.array(values)
        cells.append(f"{values.mean():.1f} ± {values.std():.1f}")
    cells.append(f"{result['seconds']:.0f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
