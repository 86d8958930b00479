"""What a step costs whose model has a large table of an `Embedding`.

    KERAS_BACKEND=tensorflow python benchmarks/sparse_embedding.py
    KERAS_BACKEND=torch python benchmarks/sparse_embedding.py --optimizers SGD

Two objectives share a dense layer, before which ids are looked up in the table:
by one of them, or by both. On TensorFlow the table's gradient is sparse; what
remains dense is timed with a `loss_scale_factor` of 1, for which it is.

Every cell is a process of its own, for its peak memory (the resident set, less
that of the bare process once everything is imported). All are run in turn in
every round. The time is CPU time on one core; reported are medians.
"""

import argparse
import json
import os
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    # Before a backend is imported and counts the cores.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras
import numpy as np
from keras import layers
from step_cost import TrainingLoop
from step_cost import machine

import keras_mimo

BATCH_SIZE = 512
IDS = 16
WIDTH = 32
STEPS = 10
NAMES = ("a", "b")
# Method: combiner, and options of the optimizer.
METHODS = {
    "plain": (None, {}),
    "MIMO": (lambda: keras_mimo.MIMOCombiner(fused="a"), {}),
    "MGDA": (keras_mimo.MGDACombiner, {}),
    "MGDA, dense": (keras_mimo.MGDACombiner, {"loss_scale_factor": 1.0}),
    "GradDrop": (keras_mimo.combiners.GradDropCombiner, {}),
}
OPTIMIZERS = ("SGD", "Adam")


def network(cls, rows, reaching):
    """A model whose table one or both of the objectives reach."""
    inputs = {
        "ids": keras.Input((IDS,), dtype="int32", name="ids"),
        "values": keras.Input((WIDTH,), name="values"),
    }
    words = layers.Embedding(rows, WIDTH, name="table")(inputs["ids"])
    words = layers.GlobalAveragePooling1D()(words)
    values = inputs["values"]
    if reaching == 2:
        values = layers.Add()([words, values])
    shared = layers.Dense(64, activation="relu", name="shared")
    features = dict(zip(NAMES, (words, values), strict=True))
    return cls(
        inputs,
        {n: layers.Dense(1, name=n)(shared(x)) for n, x in features.items()},
    )


def peak_memory():
    """The peak resident set of this process, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / 1e6 if sys.platform == "darwin" else 1024 * peak / 1e6


def measure(method, optimizer, reaching, rows):
    """Milliseconds a step, and MB, in this process."""
    bare = peak_memory()
    keras.utils.set_random_seed(0)
    combiner, options = METHODS[method]
    cls = keras.Model if combiner is None else keras_mimo.BalancedModel
    model = network(cls, rows, reaching)
    model.compile(
        getattr(keras.optimizers, optimizer)(1e-3, **options),
        dict.fromkeys(NAMES, "mse"),
        **({} if combiner is None else {"combiner": combiner()}),
    )
    rng = np.random.default_rng(0)
    convert = keras.ops.convert_to_tensor
    x = {
        "ids": convert(rng.integers(rows, size=(BATCH_SIZE, IDS)), "int32"),
        "values": convert(rng.normal(size=(BATCH_SIZE, WIDTH)), "float32"),
    }
    y = {n: convert(rng.normal(size=(BATCH_SIZE, 1)), "float32") for n in NAMES}
    loop = TrainingLoop(model, x, y)
    return 1000 * loop.seconds(STEPS), peak_memory() - bare


def measure_apart(*cell):
    """`measure()` in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, "--cell", json.dumps(cell)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Time and memory of a step with a large embedding."
    )
    parser.add_argument("--rows", type=int, default=10**6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--optimizers", nargs="+", choices=OPTIMIZERS, default=OPTIMIZERS
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS)
    )
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.cell is not None:
        print(json.dumps(measure(*options.cell)))
        return
    cells = [
        (method, optimizer, reaching, options.rows)
        for optimizer in options.optimizers
        for reaching in (1, 2)
        for method in options.methods
    ]
    print(" · ".join(str(value) for value in machine().values()))
    print(
        f"\n{options.rows} x {WIDTH}, {BATCH_SIZE} x {IDS} ids, "
        f"{options.rounds} rounds: ms a step / MB\n"
    )
    rounds = [
        [measure_apart(*cell) for cell in cells] for _ in range(options.rounds)
    ]
    medians = np.median(rounds, axis=0)
    titles = ["optimizer", "objectives that reach it", *options.methods]
    print("| " + " | ".join(titles) + " |")
    print("| --- | ---: |" + " ---: |" * len(options.methods))
    width = len(options.methods)
    for start in range(0, len(cells), width):
        _, optimizer, reaching, _ = cells[start]
        row = [f"{ms:.1f} / {mb:.0f}" for ms, mb in medians[start:][:width]]
        print("| " + " | ".join([optimizer, str(reaching), *row]) + " |")


if __name__ == "__main__":
    main()
