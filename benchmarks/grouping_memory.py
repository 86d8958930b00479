"""What grouping the classes of a large model costs, in time and in memory.

    KERAS_BACKEND=torch OMP_NUM_THREADS=2 python benchmarks/grouping_memory.py

By default 1000 classes, and a dense network with 25 million variables before
its head, on random data: one row of gradients per class would take 100 GB. Two
ways without it are run one after the other: all variables, projected at random;
and the kernel of the last layer before the head, exact.

Memory is the peak resident set of the process so far, so that the second figure
includes the first. The process is bare once everything is imported.
"""

import argparse
import math
import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

from keras_mimo.grouping import class_affinity
from keras_mimo.grouping import class_gramian
from keras_mimo.grouping import spectral_groups

LIMIT = 2 * 2**30
FEATURES = 768


def peak_memory():
    """The peak resident set of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else 1024 * peak


def network(num_classes, units):
    inputs = x = keras.Input((FEATURES,))
    for count in units[:-1]:
        x = layers.Dense(count, activation="relu")(x)
    x = layers.Dense(units[-1], activation="relu", name="last")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="head")(x))


def data(num_classes, samples):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(num_classes), samples)
    return rng.normal(size=(len(y), FEATURES)).astype("float32"), y


def in_last_layer(variable):
    return variable.path == "last/kernel"


def report(name, options, model, dataset, arguments, bare):
    start = time.perf_counter()
    gramian, counts = class_gramian(
        model,
        dataset,
        arguments.classes,
        batch_size=arguments.batch_size,
        verbose=0,
        **options,
    )
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    groups = spectral_groups(class_affinity(gramian), arguments.groups)
    grouping_seconds = time.perf_counter() - start
    peak = peak_memory()
    cells = [
        name,
        f"{counts.sum()}",
        f"{seconds:.1f}",
        f"{grouping_seconds:.1f}",
        f"{peak / 2**20:.0f}",
        f"{(peak - bare) / 2**20:.0f}",
        "yes" if peak - bare < LIMIT else "no",
        " ".join(str(len(group)) for group in groups),
    ]
    print(row(cells), flush=True)


def row(cells):
    return "| " + " | ".join(cells) + " |"


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Time and memory of grouping the classes of a large model."
    )
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=1, help="per class")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--projection", type=int, default=4096)
    parser.add_argument(
        "--units", type=int, nargs="+", default=[4096, 4096, 1280, 208]
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    arguments = parse(arguments)
    bare = peak_memory()
    keras.utils.set_random_seed(0)
    model = network(arguments.classes, arguments.units)
    dataset = data(arguments.classes, arguments.samples)
    backbone = sum(
        math.prod(v.shape)
        for v in model.trainable_variables
        if not v.path.startswith("head")
    )
    print(
        f"{keras.backend.backend()} · {arguments.classes} classes · {backbone} "
        f"variables · bare process {bare / 2**20:.0f} MiB"
    )
    titles = ["method", "samples", "seconds", "grouping seconds", "peak MiB"]
    titles += ["above bare MiB", "under 2 GiB", "group sizes"]
    print(row(titles))
    print(row(["---"] * len(titles)))
    projection = {"projection": arguments.projection}
    name = f"all variables, projected to {arguments.projection}"
    report(name, projection, model, dataset, arguments, bare)
    last = {"variables": in_last_layer}
    report("last layer, exact", last, model, dataset, arguments, bare)


if __name__ == "__main__":
    main()
