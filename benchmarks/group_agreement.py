"""How well the gradients of classes agree inside the groups of each method.

    KERAS_BACKEND=jax python benchmarks/group_agreement.py
    KERAS_BACKEND=torch python benchmarks/group_agreement.py --seeds 10 11 12 13

The data, models and warm-up are those of `long_tail.py`, trained plainly until
classes would be grouped. A cell has the mean cosine of two classes inside a
group with its standard deviation over the seeds, that of two classes of
different groups, and the share of the classes in the largest group. Random
groups are of equal sizes, the mean of 100 draws. No test set is looked at.
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from long_tail import LA
from long_tail import TASKS
from long_tail import cross_entropy
from sklearn.cluster import AgglomerativeClustering

from keras_mimo.grouping import find_groups
from keras_mimo.grouping import spectral_groups
from keras_mimo.grouping import ward_groups

LOSSES = {"CE": cross_entropy, "LA": LA}
DRAWS = 100


def average_groups(affinity, num_groups):
    linkage = AgglomerativeClustering(
        num_groups, metric="precomputed", linkage="average"
    )
    labels = linkage.fit_predict(2.0 - affinity)
    return [np.flatnonzero(labels == k).tolist() for k in range(num_groups)]


def random_groups(num_classes, num_groups, random):
    classes = random.permutation(num_classes)
    return [part.tolist() for part in np.array_split(classes, num_groups)]


FOUND = {
    "released": spectral_groups,
    "average linkage": average_groups,
    "ward": ward_groups,
}


def warmed_up(task, loss, seed):
    """The grouping of a network at the end of the warm-up."""
    keras.utils.set_random_seed(seed)
    model = task.model(keras.Model)
    model.compile(keras.optimizers.Adam(1e-3), loss(task.counts))
    model.fit(
        *task.train,
        batch_size=task.batch_size,
        epochs=task.warm_up,
        verbose=0,
    )
    return find_groups(model, task.train, 1, len(task.counts), verbose=0)


def measure(grouping, groups):
    """The cosines inside and between groups, and the largest group's share."""
    grouping = dataclasses.replace(grouping, groups=groups)
    return (
        grouping.cosine_inside_groups,
        grouping.cosine_between_groups,
        max(map(len, groups)) / len(grouping.counts),
    )


def measurements(grouping, num_groups, seed):
    """Dict from the name of a method to what `measure()` returns."""
    random = np.random.default_rng(seed)
    num_classes = len(grouping.counts)
    results = {
        name: measure(grouping, function(grouping.affinity, num_groups))
        for name, function in FOUND.items()
    }
    draws = [
        measure(grouping, random_groups(num_classes, num_groups, random))
        for _ in range(DRAWS)
    ]
    return {**results, "random": np.mean(draws, axis=0)}


def cell(values):
    inside, between, largest = np.transpose(values)
    return (
        f"{inside.mean():.2f} ± {inside.std():.2f} / {between.mean():.2f} / "
        f"{100 * largest.mean():.0f}"
    )


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Cosines of class gradients inside and between groups."
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--groups", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--data", type=Path, help="where a task's data are")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    titles = [*FOUND, "random"]
    print(
        f"{keras.backend.backend()} · seeds {options.seeds} · "
        "cosine inside / between / largest group in %\n"
    )
    print("| data | loss | groups | " + " | ".join(titles) + " |")
    print("| --- | --- | ---: |" + " ---: |" * len(titles))
    for task_name in options.tasks:
        for loss_name in options.losses:
            groupings = {}
            for seed in options.seeds:
                keras.utils.clear_session()
                task = TASKS[task_name](seed, options.data)
                groupings[seed] = warmed_up(task, LOSSES[loss_name], seed)
            for num_groups in options.groups:
                found = [
                    measurements(grouping, num_groups, seed)
                    for seed, grouping in groupings.items()
                ]
                cells = [cell([f[title] for f in found]) for title in titles]
                cells = [task_name, loss_name, str(num_groups), *cells]
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
