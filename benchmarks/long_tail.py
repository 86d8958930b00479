"""Balanced accuracy on long-tailed data: GBG beside what its users compare.

    KERAS_BACKEND=jax python benchmarks/long_tail.py
    KERAS_BACKEND=torch python benchmarks/long_tail.py --seeds 2 --methods CE LA

Fashion-MNIST-LT (at most 1000 images a class, imbalance factor 0.01) in two
orders of the classes, since the last classes of the usual order are its
easiest; and the nouns of WordNet, 26 kinds with a natural tail. A small network
and small batches, in which the tail is rare: what comes out for large ones may
differ. Head, medium and tail are the largest three tenths of the classes, the
next four and the last three. Conflict is the share of pairs of groups whose
gradients point against each other, over the last ten epochs.

Every method starts from the same weights, sees the same batches and ends after
the same number of epochs, in which the learning rate falls to 0. Nothing is
chosen by the test set here, but what is compared was chosen in runs with other
seeds on the same test sets.
"""

import argparse
import dataclasses
import functools
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
from keras_mimo.datasets import load_wordnet_nouns
from keras_mimo.objectives import ClassGroups

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
        warm_up: Integer, the epochs before classes are grouped.
        decay: Boolean, whether the learning rate falls to 0 along a cosine.
    """

    name: str
    train: tuple
    test: tuple
    batch_size: int = 64
    epochs: int = 30
    warm_up: int = 5
    decay: bool = True

    @property
    def counts(self):
        return np.bincount(self.train[1])

    def model(self, cls):
        inputs, x = self._features(())
        return cls(inputs, layers.Dense(len(self.counts), name="classifier")(x))

    def contrastive_model(self, cls):
        """A model of two views with one output, for `WithContrast`."""
        inputs, x = self._features((2,))
        classifier = layers.Dense(len(self.counts), name="classifier")
        head = keras_mimo.layers.ContrastiveHead(classifier, units=64)(x)
        logits = layers.RepeatVector(2)(head["logits"])
        return cls(
            inputs, layers.Concatenate(name="both")([head["contrast"], logits])
        )

    def _features(self, views):
        inputs = keras.Input((*views, *self.train[0].shape[1:]))
        x = layers.Flatten()(inputs)
        if views:
            x = layers.Reshape((*views, -1))(x)
        x = layers.Dense(256, activation="relu", name="first")(x)
        return inputs, layers.Dense(128, activation="relu", name="second")(x)


@keras.saving.register_keras_serializable(package="keras_mimo_benchmarks")
class WithContrast(keras.losses.Loss):
    """A loss of logits plus the balanced contrastive loss, sample by sample."""

    # Both as in GBG's code: 2 and 1.6.
    scale = 0.8

    def __init__(self, loss, num_classes):
        super().__init__(name="with_contrast")
        self.loss = loss
        self.loss.reduction = None
        self.num_classes = num_classes
        self.contrast = losses.BalancedContrastive(num_classes, reduction=None)

    def call(self, y_true, y_pred):
        logits = y_pred[:, 0, -self.num_classes :]
        contrast = y_pred[..., : -self.num_classes]
        return self.loss(y_true, logits) + self.scale * self.contrast(
            y_true, contrast
        )


class Views(keras.utils.PyDataset):
    """Images mirrored by chance and shifted by up to two pixels each way."""

    def __init__(self, x, y, batch_size, views, seed):
        super().__init__()
        self._x = np.pad(x, ((0, 0), (2, 2), (2, 2)))
        self._y = y
        self._batch_size = batch_size
        self._views = views
        self._random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self._y) // self._batch_size)

    def __getitem__(self, index):
        start = index * self._batch_size
        chosen = self._order[start : start + self._batch_size]
        views = [self._view(chosen) for _ in range(max(self._views, 1))]
        x = np.stack(views, axis=1) if self._views else views[0]
        return x, self._y[chosen]

    def on_epoch_end(self):
        self._order = self._random.permutation(len(self._y))

    def _view(self, chosen):
        size = self._x.shape[1] - 4
        shifts = self._random.integers(0, 5, (2, len(chosen), 1))
        rows, columns = shifts + np.arange(size)
        mirrored = self._random.random(len(chosen)) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
        return self._x[
            chosen[:, None, None], rows[:, :, None], columns[:, None, :]
        ]


def fashion(name, class_order, seed, path):
    train, test = keras_mimo.datasets.load_fashion_mnist_lt(
        0.01, class_order=class_order, max_count=1000, seed=seed, path=path
    )
    scaled = [
        (x.astype("float32") / 255, y.astype("int32")) for x, y in (train, test)
    ]
    return Task(name, *scaled)


@functools.cache
def nouns(path):
    words, glosses, y = load_wordnet_nouns(path)
    texts = [f"{w}. {gloss}" for w, gloss in zip(words, glosses, strict=True)]
    hashing = HashingVectorizer(n_features=1024, alternate_sign=False)
    return hashing.transform(texts).toarray().astype("float32"), y


def wordnet(seed, path):
    """Kinds of nouns from their words and glosses, a natural tail."""
    x, y = nouns(path)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=seed
    )
    train, test = (x_train, y_train), (x_test, y_test)
    return Task("wordnet", train, test, batch_size=256, epochs=5, warm_up=1)


TASKS = {
    "fashion": functools.partial(fashion, "fashion", None),
    "fashion-reversed": functools.partial(
        fashion, "fashion-reversed", list(range(9, -1, -1))
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
        grouping: How they are found, a `method` of `ClassGroups`.
        num_groups: Integer.
        regroup_every: Number of epochs, or `None`: never.
        views: `None`, or the number of random views of an image in a batch:
            two add the balanced contrastive loss. For images only.
    """

    name: str
    loss: Callable
    combiner: Callable | None = None
    groups: Callable | None = None
    grouping: str = "ward"
    num_groups: int = 4
    regroup_every: int | None = None
    views: int | None = None

    def train(self, task, seed):
        """Trains a model.

        Returns:
            Dict of the recall of every class on the test set, the accuracy on
            the training set, and the share of pairs of groups whose gradients
            conflict, the mean over the last ten epochs (0 without groups).
        """
        keras.utils.set_random_seed(seed)
        model = self._model(task)
        arguments, callbacks = self._balancing(task, seed)
        model.compile(self._optimizer(task), self._loss(task), **arguments)
        history = model.fit(
            *self._data(task, seed),
            batch_size=None if self.views else task.batch_size,
            epochs=task.epochs,
            callbacks=callbacks,
            verbose=0,
        ).history
        x, y = task.test
        predicted = self._predict(model, x, task)
        x_train, y_train = task.train
        return {
            "recalls": [
                float(np.mean(predicted[y == c] == c)) for c in np.unique(y)
            ],
            "train": float(
                np.mean(self._predict(model, x_train, task) == y_train)
            ),
            "conflict": float(np.mean(history.get("conflict", [0])[-10:])),
        }

    def _optimizer(self, task):
        if not task.decay:
            return keras.optimizers.Adam(1e-3)
        steps = task.epochs * -(-len(task.train[1]) // task.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(1e-3, steps)
        return keras.optimizers.Adam(schedule)

    def _predict(self, model, x, task):
        predicted = model.predict(self._both(x), batch_size=1000, verbose=0)
        if self.views == 2:
            predicted = predicted[:, 0, -len(task.counts) :]
        return np.argmax(predicted, axis=-1)

    def _model(self, task):
        balanced = self.combiner is not None
        cls = keras_mimo.BalancedModel if balanced else keras.Model
        return (task.contrastive_model if self.views == 2 else task.model)(cls)

    def _loss(self, task):
        loss = self.loss(task.counts)
        if self.views == 2:
            return WithContrast(loss, len(task.counts))
        return loss

    def _data(self, task, seed):
        if self.views is None:
            return task.train
        views = 0 if self.views == 1 else self.views
        return (Views(*task.train, task.batch_size, views, seed),)

    def _both(self, x):
        """Images as they are, as both views where the model has two."""
        return np.repeat(x[:, None], 2, axis=1) if self.views == 2 else x

    def _balancing(self, task, seed):
        if self.combiner is None:
            return {}, []
        arguments = {
            "objectives": ClassGroups(
                num_groups=self.num_groups,
                num_classes=len(task.counts),
                method=self.grouping,
            ),
            "combiner": self.combiner(),
            "balanced_variables": "backbone",
        }
        if self.groups is not None:
            groups = self.groups(task, seed, self.num_groups)
            return arguments, [AssignGroups(groups, task.warm_up)]
        x, y = task.train
        regroup = RegroupClasses(
            (self._both(x), y), start=task.warm_up, every=self.regroup_every
        )
        return arguments, [regroup]


class AssignGroups(keras.callbacks.Callback):
    """Groups that are known, from the same epoch on as those that are found."""

    def __init__(self, groups, epoch):
        super().__init__()
        self._groups = groups
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            self.model.objectives.assign_groups(self._groups)


def cross_entropy(counts):
    return CE


def random_groups(task, seed, num_groups):
    classes = np.random.default_rng(seed).permutation(len(task.counts))
    return [part.tolist() for part in np.array_split(classes, num_groups)]


def frequency_groups(task, seed, num_groups):
    classes = np.argsort(-task.counts, kind="stable")
    return [part.tolist() for part in np.array_split(classes, num_groups)]


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


def both(name, *arguments, **options):
    """A method with groups that agree, and with those of GBG's code."""
    return [
        Method(name, *arguments, **options),
        released(f"{name}, released groups", *arguments, **options),
    ]


released = functools.partial(Method, grouping="released")
LA = losses.LogitAdjusted
LOSS_PLUS = mgda(normalization="loss+")
GBG = steady(LOSS_PLUS)
METHODS = [
    Method("CE", cross_entropy),
    Method("class-balanced", losses.ClassBalanced),
    Method("balanced softmax", losses.BalancedSoftmax),
    Method("LA", LA),
    # The paper's, on small batches.
    released("GBG as released, CE", cross_entropy, published("reference")),
    released("GBG corrected, CE", cross_entropy, published("corrected")),
    # Those of `keras_mimo.gbg()`.
    *both("GBG, CE", cross_entropy, GBG),
    *both("GBG, LA", LA, GBG),
    *both("GBG, LA, 2 groups", LA, GBG, num_groups=2),
    *both("GBG, LA, 8 groups", LA, GBG, num_groups=8),
    *both("GBG, LA, regrouped", LA, GBG, regroup_every=10),
    Method("random groups, LA", LA, GBG, random_groups),
    Method("frequency groups, LA", LA, GBG, frequency_groups),
    # Another normalisation, other combiners over groups.
    Method("GBG l2, LA", LA, steady(mgda(normalization="l2"))),
    Method("UPGrad of groups, LA", LA, steady(combiners.UPGradCombiner)),
    Method("CAGrad of groups, LA", LA, steady(combiners.CAGradCombiner)),
    Method("mean of groups, LA", LA, keras_mimo.MeanCombiner),
    # With random views of the images, and the paper's other half.
    Method("LA, views", LA, views=1),
    Method("LA + BCL", LA, views=2),
    released("GBG, LA, views", LA, GBG, views=1),
    released("GBG, CE + BCL", cross_entropy, GBG, views=2),
    released("GBG, LA + BCL", LA, GBG, views=2),
]


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
    parser.add_argument("--constant-rate", action="store_true")
    parser.add_argument("--data", type=Path, help="where a task's data are")
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
        titles = ["method", "balanced", "head", "medium", "tail"]
        titles += ["training set", "conflict", "seconds"]
        print("| " + " | ".join(titles) + " |")
        print("| --- |" + " ---: |" * 7)
        for method in METHODS:
            images = task_name != "wordnet"
            if method.name in options.methods and (images or not method.views):
                result = run(method, task_name, options)
                report["results"].append(result)
                print(row(result), flush=True)
                options.output.write_text(json.dumps(report, indent=2) + "\n")


def run(method, task_name, options):
    runs = []
    start = time.perf_counter()
    for seed in range(options.seeds):
        keras.utils.clear_session()
        task = TASKS[task_name](seed, options.data)
        task.epochs = options.epochs or task.epochs
        task.decay = not options.constant_rate
        runs.append(method.train(task, seed))
    seconds = (time.perf_counter() - start) / options.seeds
    recalls = [run["recalls"] for run in runs]
    return {
        "task": task_name,
        "method": method.name,
        "recalls": recalls,
        "counts": task.counts.tolist(),
        "seconds": seconds,
        "summary": {
            **{k: v.tolist() for k, v in summary(task, recalls).items()},
            "train": [run["train"] for run in runs],
            "conflict": [run["conflict"] for run in runs],
        },
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
