"""How long one waits for the first step of a model with many objectives.

    KERAS_BACKEND=jax python benchmarks/many_objectives.py
    KERAS_BACKEND=torch python benchmarks/many_objectives.py --objectives 64

A small dense model with K outputs. What is timed is the first call of
`train_on_batch()`, in which TensorFlow and JAX compile the step: plain Keras
beside a combiner of losses and one of gradients, in turn.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers
from step_cost import machine

import keras_mimo

COLUMNS = {
    "plain": lambda: None,
    "MIMO": lambda: keras_mimo.MIMOCombiner(fused="0"),
    "MGDA": keras_mimo.MGDACombiner,
}


def first_step(count, combiner):
    """Seconds until the first step is done."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32,))
    x = layers.Dense(64, activation="tanh")(inputs)
    x = layers.Dense(64, activation="tanh")(x)
    outputs = {
        str(k): layers.Dense(1, name=f"output_{k}")(x) for k in range(count)
    }
    data = np.ones((32, 32), "float32")
    labels = {name: np.ones((32, 1), "float32") for name in outputs}
    if combiner is None:
        model = keras.Model(inputs, outputs)
        model.compile("adam", dict.fromkeys(outputs, "mse"))
    else:
        model = keras_mimo.BalancedModel(inputs, outputs)
        model.compile("adam", "mse", combiner=combiner)
    start = time.perf_counter()
    model.train_on_batch(data, labels)
    return time.perf_counter() - start


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Time of the first step by number of objectives."
    )
    parser.add_argument(
        "--objectives", type=int, nargs="+", default=[4, 16, 64]
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print(" · ".join(str(value) for value in machine().values()))
    print("\nSeconds of the first step, lowest to highest of the rounds\n")
    print("| objectives | " + " | ".join(COLUMNS) + " |")
    print("| ---: |" + " ---: |" * len(COLUMNS))
    for count in options.objectives:
        rounds = [
            [first_step(count, make()) for make in COLUMNS.values()]
            for _ in range(options.rounds)
        ]
        cells = [
            f"{min(times):.1f} to {max(times):.1f}"
            for times in zip(*rounds, strict=True)
        ]
        row = [str(count), *cells]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
