"""What a balanced training step costs, relative to the plain Keras step.

Run it once per backend, on an idle machine:

    KERAS_BACKEND=jax python benchmarks/step_cost.py
    KERAS_BACKEND=torch python benchmarks/step_cost.py --models mlp --rounds 5

`make bench` runs it on all three. It prints one table per model and writes all
figures to a JSON file.

Every column is the same model with K heads, compiled in another way, and steps
through its own compiled train function, as `fit` does. All columns are timed in
turn in every round. A ratio compares two times of one round; reported are the
median and the quartiles over the rounds.

It is CPU time on one core: the wall time of an idle core, whatever else the
machine does meanwhile. Several cores would add the spinning of idle threads, an
accelerator would not show.
"""

import argparse
import dataclasses
import datetime
import importlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    # Before a backend is imported and counts the cores.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras
import numpy as np
from keras import layers

import keras_mimo
from keras_mimo import combiners

BACKEND = keras.backend.backend()
BATCH_SIZE = 64
NUM_CLASSES = 10
# Long enough for the clock, short enough to interleave.
BLOCK_SECONDS = 0.1


def cnn(cls, names):
    """Three convolutions and a dense layer that all heads share."""
    inputs = x = keras.Input((32, 32, 3))
    for filters, strides in ((32, 1), (64, 2), (128, 2)):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=False
        )(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    x = layers.Dense(128, activation="relu", name="last_shared")(x)
    return cls(inputs, _heads(x, names))


def mlp(cls, names):
    """Three dense layers that all heads share."""
    inputs = x = keras.Input((128,))
    for units, name in ((512, "first"), (512, "second"), (256, "last_shared")):
        x = layers.Dense(units, use_bias=False, name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        x = layers.Activation("relu")(x)
        x = layers.Dropout(0.2)(x)
    return cls(inputs, _heads(x, names))


def _heads(x, names):
    return {name: layers.Dense(NUM_CLASSES, name=name)(x) for name in names}


MODELS = {"cnn": cnn, "mlp": mlp}


def in_last_shared_block(variable):
    return variable.path.startswith("last_shared")


@dataclasses.dataclass
class Column:
    """A way to compile the model, beside the plain one.

    Args:
        name: Title.
        combiner: Function that returns the combiner.
        period: Number of steps after which the cost repeats.
        options: Other arguments of `compile()`.
    """

    name: str
    combiner: Callable
    period: int = 1
    options: dict = dataclasses.field(default_factory=dict)

    def compile_options(self):
        return {"combiner": self.combiner(), **self.options}


PERIOD = 8
COLUMNS = [
    Column("MIMO", keras_mimo.MIMOCombiner),
    Column("Sum", keras_mimo.SumCombiner),
    Column("FAMO", combiners.FAMOCombiner),
    Column("MGDA", keras_mimo.MGDACombiner),
    Column("GradDrop", combiners.GradDropCombiner),
    Column(
        "MGDA, last block",
        keras_mimo.MGDACombiner,
        options={"balanced_variables": in_last_shared_block},
    ),
    Column(
        "MGDA, representation",
        keras_mimo.MGDACombiner,
        options={"gradients_at": "last_shared"},
    ),
    Column(
        "MGDA, vectorised",
        keras_mimo.MGDACombiner,
        options={"vectorized_gradients": True},
    ),
    Column(
        f"MGDA every {PERIOD}",
        lambda: combiners.EveryN(keras_mimo.MGDACombiner(), PERIOD),
        period=PERIOD,
    ),
    # Its first step alone, which is not timed, asks for a Gramian.
    Column(
        "MGDA, kept weights",
        lambda: combiners.EveryN(keras_mimo.MGDACombiner(), 10**6),
    ),
]


class TrainingLoop:
    """Steps a compiled model through its train function, on one batch.

    The model must not be used in another way: on JAX its state lives here.
    """

    def __init__(self, model, x, y):
        # Builds and compiles everything.
        model.train_on_batch(x, y)
        self._train_function = model.train_function
        self._batch = (x, y, None)
        self._state = tuple(
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
        )

    def run(self, steps):
        """Runs the steps and returns once the device has finished them."""
        if BACKEND == "jax":
            self._run_stateless(steps)
            return
        for _ in range(steps):
            logs = self._train_function([self._batch])
        keras.ops.convert_to_numpy(logs["loss"])

    def _run_stateless(self, steps):
        import jax

        for _ in range(steps):
            _, self._state = self._train_function(
                self._state, iter([self._batch])
            )
        jax.block_until_ready(self._state)

    def seconds(self, steps):
        """Seconds per step."""
        # Caches and allocator still hold what another model left there.
        self.run(1)
        start = time.process_time()
        self.run(steps)
        return (time.process_time() - start) / steps


def training_loop(model_name, names, column=None):
    """A compiled model in its loop, the plain one if there is no column."""
    cls = keras.Model if column is None else keras_mimo.BalancedModel
    model = MODELS[model_name](cls, names)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        # The weights stay: no column converges into denormal numbers.
        keras.optimizers.Adam(learning_rate=0.0),
        {name: loss for name in names},
        **(column.compile_options() if column else {}),
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH_SIZE, *model.input_shape[1:]))
    y = {name: rng.integers(NUM_CLASSES, size=BATCH_SIZE) for name in names}
    return TrainingLoop(
        model,
        keras.ops.convert_to_tensor(x, "float32"),
        {name: keras.ops.convert_to_tensor(y[name]) for name in names},
    )


def measure(model_name, count, rounds):
    """Times all columns of one model with `count` heads.

    Returns:
        Dict of results, as it is written to the JSON file.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    names = ["fused", *(f"head_{index}" for index in range(1, count))]
    loops = [
        training_loop(model_name, names, column) for column in (None, *COLUMNS)
    ]
    # The first step of all compiles, and the clock wants a warm plain step.
    for loop in loops:
        loop.run(2)
    steps = math.ceil(BLOCK_SECONDS / loops[0].seconds(1))
    blocks = [
        period * math.ceil(steps / period)
        for period in (1, *(column.period for column in COLUMNS))
    ]
    times = np.array(
        [
            [loop.seconds(n) for loop, n in zip(loops, blocks, strict=True)]
            for _ in range(rounds)
        ]
    )
    plain = times[:, 0]
    return {
        "model": model_name,
        "objectives": count,
        "rounds": rounds,
        "steps_per_round": steps,
        "plain_milliseconds": spread(1000 * plain),
        "columns": [
            summarize(column, own, plain)
            for column, own in zip(COLUMNS, times[:, 1:].T, strict=True)
        ],
    }


def summarize(column, seconds, plain_seconds):
    return {
        "name": column.name,
        "milliseconds": spread(1000 * seconds),
        "ratio": spread(seconds / plain_seconds),
    }


def spread(values):
    lower, median, upper = np.percentile(values, (25, 50, 75))
    return {
        "lower_quartile": float(lower),
        "median": float(median),
        "upper_quartile": float(upper),
    }


def table_head():
    titles = ["K", "plain ms", *(column.name for column in COLUMNS)]
    return [_row(titles), _row(["---"] * len(titles))]


def table_row(result):
    plain = result["plain_milliseconds"]["median"]
    cells = [str(result["objectives"]), f"{plain:.1f}"]
    for column in result["columns"]:
        ratio = column["ratio"]
        cells.append(
            f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f} to "
            f"{ratio['upper_quartile']:.2f})"
        )
    return _row(cells)


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def machine():
    backend = importlib.import_module(BACKEND)
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "keras_mimo": keras_mimo.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": BACKEND,
        "backend_version": backend.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
    }


def _cpu_name():
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Ratio of a balanced training step to the plain Keras step."
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument(
        "--objectives", nargs="+", type=int, default=[2, 4, 8, 16]
    )
    names = [column.name for column in COLUMNS]
    parser.add_argument("--columns", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--output", type=Path, default=Path(f"step_cost_{BACKEND}.json")
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    COLUMNS[:] = [c for c in COLUMNS if c.name in options.columns]
    report = {"machine": machine(), "results": []}
    print(" · ".join(str(value) for value in report["machine"].values()))
    print(
        f"CPU time of a step over that of the plain step, median (quartiles) "
        f"of {options.rounds} rounds."
    )
    for model_name in options.models:
        print(f"\n### {model_name}\n", *table_head(), sep="\n")
        for count in options.objectives:
            result = measure(model_name, count, options.rounds)
            report["results"].append(result)
            print(table_row(result), flush=True)
            options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
