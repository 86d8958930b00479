"""The quick start in half precision: is it as accurate as in float32?

    KERAS_BACKEND=jax python benchmarks/half_precision.py
    KERAS_BACKEND=torch python benchmarks/half_precision.py --seeds 5

The model, data and training of `examples/quickstart.py` with MIMO and with
MGDA, under each dtype policy; accuracy on people not seen in training. Under
`mixed_float16` Keras scales the loss.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from quickstart import OUTPUTS
from quickstart import late
from quickstart import machine
from quickstart import mean_and_spread
from quickstart import train

import keras_mimo
from keras_mimo.datasets import load_watch

COMBINERS = {"MIMO": keras_mimo.MIMOCombiner, "MGDA": keras_mimo.MGDACombiner}
POLICIES = ["float32", "mixed_float16", "mixed_bfloat16"]


def accuracies(combiner, policy, seed, epochs, data):
    """The accuracy of each output after the last epoch."""
    keras.config.set_dtype_policy(policy)
    try:
        _, history = train(late, combiner, seed, epochs, *data)
    finally:
        keras.config.set_dtype_policy("float32")
    return [history[f"val_{name}_accuracy"][-1] for name in OUTPUTS]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Accuracy of the quick start in half precision."
    )
    parser.add_argument(
        "--combiners", nargs="+", choices=COMBINERS, default=COMBINERS
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    data = load_watch()
    print(f"{machine()}\n{options.seeds} seeds, accuracy in %\n")
    print("| combiner | policy | " + " | ".join(OUTPUTS) + " |")
    print("| --- | --- |" + " ---: |" * len(OUTPUTS))
    for name in options.combiners:
        for policy in POLICIES:
            runs = [
                accuracies(
                    COMBINERS[name](), policy, seed, options.epochs, data
                )
                for seed in range(options.seeds)
            ]
            cells = map(mean_and_spread, 100 * np.transpose(runs))
            row = [name, policy, *cells]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
