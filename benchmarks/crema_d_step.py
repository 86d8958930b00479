"""A step of examples/crema_d.py: its time and memory, on a GPU.

    KERAS_BACKEND=torch python benchmarks/crema_d_step.py

The two ResNet-18 of that example, on made batches of 64 that are on the device
already, so that what it takes to read and decode is left out. A process for
each method, as JAX tells the peak of a process only. Prints milliseconds a step
(the median of rounds) and the peak of the device's memory.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Or JAX takes most of the memory at once, and tells that.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
sys.path.insert(0, str(Path(__file__).parents[1]))

METHODS = ("joint", "sum", "MIMO", "MGDA", "OGM-GE")


def measure(method, batch_size, rounds):
    import keras
    import numpy as np

    import keras_mimo
    from examples import crema_d

    keras.utils.set_random_seed(0)
    model = keras_mimo.late_fusion(
        {
            "audio": keras_mimo.models.ResNet18((257, 188), channels=1),
            "image": crema_d.picture_encoder(1, 64),
        },
        num_classes=6,
    )
    options = {
        "MGDA": {"combiner": "mgda"},
        "OGM-GE": {
            "combiner": "sum",
            "modulation": keras_mimo.modulations.OGM(noise=True),
        },
    }
    if method not in options:
        options[method] = {"combiner": crema_d.COMBINERS[method]()}
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options[method],
    )
    random = np.random.default_rng(0)
    x = {
        tensor.name: keras.ops.convert_to_tensor(
            random.normal(size=(batch_size, *tensor.shape[1:])), "float32"
        )
        for tensor in model.inputs
    }
    y = keras.ops.convert_to_tensor(random.integers(6, size=batch_size))
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        # It reads the logs, and so waits for the device.
        model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    low, middle, high = np.percentile(times[3:], (25, 50, 75)) * 1000
    print(
        f"| {method} | {middle:.1f} ({low:.1f} to {high:.1f}) | "
        f"{peak_bytes() / 2**30:.2f} |"
    )


def peak_bytes():
    import keras

    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    import jax

    return jax.devices()[0].memory_stats()["peak_bytes_in_use"]


def main():
    parser = argparse.ArgumentParser(
        description="Time and memory of a step on CREMA-D, on a GPU."
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=METHODS
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return measure(options.one, options.batch_size, options.rounds)
    print("| trained | ms a step | peak GiB |")
    print("| :--- | ---: | ---: |", flush=True)
    for method in options.methods:
        arguments = ["--one", method, "--batch-size", str(options.batch_size)]
        arguments += ["--rounds", str(options.rounds)]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
