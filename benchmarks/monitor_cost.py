"""What a `BalanceMonitor` costs, in training steps of plain Keras.

Run it once per backend, on an idle machine:

    KERAS_BACKEND=jax python benchmarks/monitor_cost.py

In a training step it does nothing. After an epoch it takes the gradients of all
objectives on a few batches. The table has the time of that for one batch, over
that of a plain training step on the same batch (models, batch size and clock
are those of `step_cost.py`: CPU time on one core). Both are timed in turn in
every round; reported are the median and the quartiles of the ratio. The first
time comes on top, where TensorFlow and JAX compile it.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    # Before a backend is imported and counts the cores.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras
import numpy as np
from step_cost import BACKEND
from step_cost import BATCH_SIZE
from step_cost import MODELS
from step_cost import NUM_CLASSES
from step_cost import machine
from step_cost import spread
from step_cost import training_loop

import keras_mimo
from keras_mimo.callbacks import BalanceMonitor

BATCHES = 4
# Plain steps in each round.
STEPS = 8


def monitored(model_name, names):
    """Function without arguments that takes the gradients once."""
    model = MODELS[model_name](keras_mimo.BalancedModel, names)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(learning_rate=0.0),
        {name: loss for name in names},
        combiner=keras_mimo.SumCombiner(),
    )
    rng = np.random.default_rng(0)
    count = BATCHES * BATCH_SIZE
    x = rng.normal(size=(count, *model.input_shape[1:])).astype("float32")
    y = {name: rng.integers(NUM_CLASSES, size=count) for name in names}
    monitor = BalanceMonitor(batches=BATCHES, batch_size=BATCH_SIZE)
    seconds = []

    class Clock(keras.callbacks.Callback):
        """Before and after it, by the order of callbacks."""

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.process_time())

    def take():
        seconds.clear()
        model.fit(
            x,
            y,
            batch_size=BATCH_SIZE,
            verbose=0,
            callbacks=[Clock(), monitor, Clock()],
        )
        return seconds[1] - seconds[0]

    return take


def measure(model_name, count, rounds):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    names = [f"head_{index}" for index in range(count)]
    loop = training_loop(model_name, names)
    take = monitored(model_name, names)
    loop.run(2)
    first = take()
    times = np.array(
        [(loop.seconds(STEPS), take() / BATCHES) for _ in range(rounds)]
    )
    return spread(1000 * times[:, 0]), spread(times[:, 1] / times[:, 0]), first


def main():
    parser = argparse.ArgumentParser(
        description="Cost of a BalanceMonitor in plain training steps."
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--objectives", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    print(" · ".join(str(value) for value in machine().values()))
    print(f"\nBackend: {BACKEND}\n")
    print("| model | K | plain step, ms | a batch, in steps | first time, s |")
    print("| :--- | ---: | ---: | ---: | ---: |")
    for model_name in arguments.models:
        for count in arguments.objectives:
            plain, ratio, first = measure(model_name, count, arguments.rounds)
            print(
                f"| {model_name} | {count} | {plain['median']:.1f} | "
                f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f} to "
                f"{ratio['upper_quartile']:.2f}) | {first:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
