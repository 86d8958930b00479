"""One network on all channels: what balanced training buys in early fusion.

    KERAS_BACKEND=jax python benchmarks/early_fusion.py
    KERAS_BACKEND=jax python benchmarks/early_fusion.py --absent learnt --flags

The watch data of `examples/quickstart.py`, and one convolutional network on the
channels of both sensors, given one output per sensor by `mask_modalities()`.
Accuracy on people not seen in training: of all inputs, and of the same network
where a sensor is absent. With `--flags` the network has one more channel for
each sensor, which is 1 where the sensor is there and 0 where it is absent.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from quickstart import SENSORS
from quickstart import machine
from quickstart import mean_and_spread

import keras_mimo
from keras_mimo.datasets import load_watch

METHODS = {
    "Joint loss": lambda: None,
    "Sum of losses": keras_mimo.SumCombiner,
    "MIMO": keras_mimo.MIMOCombiner,
    "MGDA": keras_mimo.MGDACombiner,
}
COLUMNS = {"fused": "fused", "accel": "gyro lost", "gyro": "accel lost"}


def network(flags):
    """One network on the channels of both sensors, and flags if asked for."""
    inputs = {name: keras.Input((100, 3), name=name) for name in SENSORS}
    channels = list(inputs.values())
    if flags:
        for name in SENSORS:
            flag = keras.Input((1,), name=f"{name}_there")
            inputs[flag.name] = flag
            channels.append(keras.layers.RepeatVector(100)(flag))
    x = keras.layers.Concatenate()(channels)
    x = keras.layers.Conv1D(32, 5, strides=2, activation="relu")(x)
    x = keras.layers.Conv1D(64, 5, strides=2, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling1D()(x)
    x = keras.layers.Dense(len(keras_mimo.datasets.WATCH_CLASSES))(x)
    return keras.Model(inputs, x)


def accuracies(combiner, absent, flags, seed, epochs, train_set, test_set):
    """The accuracy of each output after the last epoch."""
    keras.utils.set_random_seed(seed)
    modalities = {name: [name] for name in SENSORS}
    kinds = dict.fromkeys(SENSORS, absent)
    if flags:
        modalities = {name: [name, f"{name}_there"] for name in SENSORS}
        train_set, test_set = with_flags(train_set), with_flags(test_set)
    model = keras_mimo.mask_modalities(
        network(flags),
        modalities,
        absent=kinds,
        data=train_set[0] if absent == "mean" else None,
    )
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=combiner,
    )
    model.fit(*train_set, batch_size=64, epochs=epochs, verbose=0)
    logs = model.evaluate(*test_set, verbose=0, return_dict=True)
    return [logs[f"{name}_accuracy"] for name in COLUMNS]


def with_flags(dataset):
    x, y = dataset
    ones = np.ones((len(y), 1), "float32")
    return {**x, **{f"{name}_there": ones for name in SENSORS}}, y


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Early fusion of two sensors, trained in several ways."
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS)
    )
    parser.add_argument(
        "--absent", choices=["zeros", "mean", "learnt"], default="zeros"
    )
    parser.add_argument("--flags", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    data = load_watch()
    print(
        f"{machine()}\n{options.seeds} seeds, accuracy in %, absent="
        f"{options.absent}, {'with' if options.flags else 'without'} flags\n"
    )
    print("| method | " + " | ".join(COLUMNS.values()) + " |")
    print("| --- |" + " ---: |" * len(COLUMNS))
    for method in options.methods:
        runs = [
            accuracies(
                METHODS[method](),
                options.absent,
                options.flags,
                seed,
                options.epochs,
                *data,
            )
            for seed in range(options.seeds)
        ]
        cells = map(mean_and_spread, 100 * np.transpose(runs))
        print("| " + " | ".join([method, *cells]) + " |", flush=True)


if __name__ == "__main__":
    main()
