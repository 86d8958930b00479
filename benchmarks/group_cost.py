"""What a step of GBG costs, relative to the plain Keras step.

    KERAS_BACKEND=jax python benchmarks/group_cost.py --rounds 10

The models are those of `step_cost.py` with one head of 32 classes, whose groups
are all in every batch, the dearest case. Timed in the same way: CPU time on one
core, all columns in turn in every round. What finding the groups costs is
measured by `grouping_memory.py`.
"""

import argparse
import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if hasattr(os, "sched_setaffinity"):
    # Before a backend is imported and counts the cores.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras
import numpy as np
import step_cost

import keras_mimo
from keras_mimo import combiners

CLASSES, BATCH_SIZE, PERIOD = 32, 128, 8
COLUMNS = ("exact", f"every {PERIOD}", "last block")


def compile_options(column, num_groups):
    groups = np.array_split(np.arange(CLASSES), num_groups)
    options = keras_mimo.gbg(groups=[group.tolist() for group in groups])
    if column == f"every {PERIOD}":
        options["combiner"] = combiners.EveryN(options["combiner"], PERIOD)
    elif column == "last block":
        options["balanced_variables"] = step_cost.in_last_shared_block
    return options


def training_loop(model_name, options):
    cls = keras.Model if options is None else keras_mimo.BalancedModel
    base = step_cost.MODELS[model_name](keras.Model, ["unused"])
    x = base.get_layer("last_shared").output
    logits = keras.layers.Dense(CLASSES, name="classifier")(x)
    model = cls(base.inputs, logits)
    model.compile(
        keras.optimizers.Adam(learning_rate=0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **(options or {}),
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH_SIZE, *model.input_shape[1:]))
    y = np.arange(BATCH_SIZE) % CLASSES
    return step_cost.TrainingLoop(
        model,
        keras.ops.convert_to_tensor(x, "float32"),
        keras.ops.convert_to_tensor(y),
    )


def measure(model_name, num_groups, rounds):
    """Ratios to the plain step: one row a round, one column each."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    options = [compile_options(column, num_groups) for column in COLUMNS]
    loops = [training_loop(model_name, each) for each in (None, *options)]
    for loop in loops:
        loop.run(2)
    steps = math.ceil(step_cost.BLOCK_SECONDS / loops[0].seconds(1))
    steps = PERIOD * math.ceil(steps / PERIOD)
    times = np.array(
        [[loop.seconds(steps) for loop in loops] for _ in range(rounds)]
    )
    return 1000 * np.median(times[:, 0]), times[:, 1:] / times[:, :1]


def main():
    parser = argparse.ArgumentParser(
        description="Ratio of a step of GBG to the plain Keras step."
    )
    parser.add_argument(
        "--models", nargs="+", choices=step_cost.MODELS, default=["cnn", "mlp"]
    )
    parser.add_argument("--groups", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print(" · ".join(str(value) for value in step_cost.machine().values()))
    print("Median and quartiles of the ratio to the plain step.\n")
    print("| model | groups | plain ms | " + " | ".join(COLUMNS) + " |")
    print("| --- | ---: | ---: |" + " ---: |" * len(COLUMNS))
    for model_name in options.models:
        for num_groups in options.groups:
            plain, ratios = measure(model_name, num_groups, options.rounds)
            cells = [model_name.upper(), str(num_groups), f"{plain:.1f}"]
            for low, middle, high in np.percentile(ratios, (25, 50, 75), 0).T:
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
