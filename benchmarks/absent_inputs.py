"""What an absent input should be: zeros, the mean or learnt?

    KERAS_BACKEND=jax python benchmarks/absent_inputs.py

By this the default of `mask_modalities(absent=...)` was chosen. The network of
`benchmarks/early_fusion.py`, cross-validated on the six people in the training
part of the watch data, two of them held out at a time; the four people of the
test part take no part. On standardised readings, of which the mean is zero,
and on readings as recorded, of which it is not.
"""

import argparse

import numpy as np
from early_fusion import COLUMNS
from early_fusion import METHODS
from early_fusion import accuracies
from early_fusion import machine
from early_fusion import mean_and_spread

from keras_mimo.datasets import load_watch

TEST = (1, 4, 7, 10)
FOLDS = ((2, 3), (5, 6), (8, 9))
CANDIDATES = {
    "standardised": ("zeros", "learnt"),
    "as recorded": ("zeros", "mean", "learnt"),
}


def fold_data(held_out, standardize):
    """The windows of four people to train on, and of two others."""
    (x_train, y_train), _ = load_watch((*TEST, *held_out), standardize=False)
    _, (x_test, y_test) = load_watch(held_out, standardize=False)
    if standardize:
        for name, x in x_train.items():
            mean, std = x.mean(axis=(0, 1)), x.std(axis=(0, 1))
            x_train[name] = (x - mean) / std
            x_test[name] = (x_test[name] - mean) / std
    return (x_train, y_train), (x_test, y_test)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Cross-validates what stands for an absent input."
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=["Sum of losses", "MIMO"],
    )
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    print(f"{machine()}\n{len(FOLDS)} folds, accuracy in %\n")
    header = ["readings", "method", "absent", *COLUMNS.values(), "mean of all"]
    print("| " + " | ".join(header) + " |")
    print("| --- | --- | --- |" + " ---: |" * (len(COLUMNS) + 1))
    for readings, candidates in CANDIDATES.items():
        folds = [fold_data(f, readings == "standardised") for f in FOLDS]
        for method in options.methods:
            for absent in candidates:
                runs = [
                    accuracies(
                        METHODS[method](),
                        absent,
                        False,
                        seed,
                        options.epochs,
                        *data,
                    )
                    for seed, data in enumerate(folds)
                ]
                scores = 100 * np.array(runs).T
                scores = [*scores, scores.mean(axis=0)]
                row = [readings, method, absent, *map(mean_and_spread, scores)]
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
