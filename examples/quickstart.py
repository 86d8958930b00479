"""Two sensors, one label: what balanced training buys, on real data.

A smartwatch recorded ten people doing seven shoulder exercises, with an
accelerometer and a gyroscope. Three models fuse the two:

- intermediate: each sensor has a network, and one layer sees what both make;
- late: each sensor has a network and logits of its own, which are added up;
- early: one network on the channels of both.

Each is trained in ways that differ in one argument of `compile()`:

- joint loss: on the loss of the fused output alone, as plain Keras would;
- sum of losses: on the plain sum of the losses of all three outputs, the
  baseline from which most of the gain over joint training comes;
- MIMO: on the fused loss and a smooth maximum of the losses of the sensors.

In joint training nothing asks a sensor to be right by itself, and it is not.

Four of the people are held out, and the last epoch is what is scored. The
encoder is the one of four plain ones that was best at joint training,
cross-validated on the other six people (when three of the four encoders had
already been scored on the held-out ones). Optimizer, batch size and number of
epochs were not tuned. MIMO keeps the defaults of the library, which were
chosen in early runs on this split and on two other data sets, and confirmed
since by cross-validation on training parts (`benchmarks/mimo_dial.py`).

Run `python examples/quickstart.py`, with KERAS_BACKEND set to tensorflow, jax
or torch. It takes two to three minutes on two cores.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

# On a model this small more threads gain PyTorch nothing, and where other
# programs run too they make it ten times slower. It reads this when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np

import keras_mimo
from keras_mimo.datasets import WATCH_CLASSES
from keras_mimo.datasets import load_watch

# The palette of Okabe and Ito, safe for the colour-blind.
COLORS = {
    "Joint loss": "#D55E00",
    "Sum of losses": "#666666",
    "MIMO": "#0072B2",
}
SENSORS = {"accel": "accelerometer", "gyro": "gyroscope"}
OUTPUTS = ("fused", *SENSORS)
NUM_CLASSES = len(WATCH_CLASSES)
COLUMNS = (
    "fused",
    "accel alone",
    "gyro alone",
    "fused, accel lost",
    "fused, gyro lost",
)


def convolutions():
    """The layers that turn a window into 64 features."""
    return [
        keras.layers.Conv1D(32, 5, strides=2, activation="relu"),
        keras.layers.Conv1D(64, 5, strides=2, activation="relu"),
        keras.layers.GlobalMaxPooling1D(),
    ]


def encoders():
    return {
        name: keras.Sequential([keras.Input((100, 3)), *convolutions()])
        for name in SENSORS
    }


def late():
    return keras_mimo.late_fusion(encoders(), num_classes=NUM_CLASSES)


def intermediate():
    return keras_mimo.intermediate_fusion(encoders(), num_classes=NUM_CLASSES)


def early():
    inputs = [keras.Input((100, 3), name=name) for name in SENSORS]
    x = keras.layers.Concatenate()(inputs)
    for layer in convolutions():
        x = layer(x)
    x = keras.layers.Dense(NUM_CLASSES)(x)
    # The same network once more for each sensor, with the other one absent.
    return keras_mimo.mask_modalities(keras.Model(inputs, x))


# The combiners: all that differs between rows of the same fusion.
COMBINERS = {
    # Plain Keras.
    "Joint loss": lambda: None,
    "Sum of losses": keras_mimo.SumCombiner,
    "MIMO": keras_mimo.MIMOCombiner,
}
ROWS = (
    (intermediate, "Joint loss"),
    (intermediate, "Sum of losses"),
    (intermediate, "MIMO"),
    (late, "MIMO"),
    (early, "Joint loss"),
    (early, "MIMO"),
)


def train(build, combiner, seed, epochs, train_set, test_set):
    """The part to copy: a Keras model with one more argument to compile."""
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=combiner,
    )
    history = model.fit(
        *train_set,
        batch_size=64,
        epochs=epochs,
        # For the curves: nothing is selected by them.
        validation_data=test_set,
        validation_batch_size=len(test_set[1]),
        verbose=0,
        callbacks=[RunBar()],
    )
    return model, history.history


def score(model, test_set):
    """The accuracies of a row of the table, in the order of `COLUMNS`."""
    x, y = test_set

    def accuracies(x):
        logs = model.evaluate(
            x, y, batch_size=len(y), verbose=0, return_dict=True
        )
        return [logs[f"{name}_accuracy"] for name in OUTPUTS]

    # Inputs are standardised: zeros are what a sensor reads on average.
    lost = [{**x, name: np.zeros_like(x[name])} for name in SENSORS]
    return accuracies(x) + [accuracies(x_lost)[0] for x_lost in lost]


def serve(model, x, y, folder):
    """Exports the model and lets a process without keras_mimo predict."""
    if importlib.util.find_spec("tensorflow") is not None:
        path = folder / "served_model"
        model.export(path, verbose=False)
    else:
        path = folder / "served_model.keras"
        keras_mimo.inference_model(model).save(path)
        print(
            "Writing a SavedModel takes TensorFlow, which is not installed: a "
            ".keras file, served by plain Keras, stands in."
        )

    expected = model.predict(x, verbose=0)["fused"]
    with tempfile.TemporaryDirectory() as exchange:
        inputs, logits = Path(exchange, "x.npz"), Path(exchange, "logits.npy")
        np.savez(inputs, **x)
        script = Path(__file__).with_name("serve.py")
        # What TensorFlow has to say at its start is shown if it fails only.
        child = subprocess.run(
            [sys.executable, script, path, inputs, logits],
            capture_output=True,
            text=True,
        )
        if child.returncode:
            sys.exit(child.stderr)
        served = np.load(logits)
    print(
        f"Served {path} in a process that cannot import keras_mimo:\n"
        f"accuracy {100 * np.mean(served.argmax(-1) == y):.1f} %, "
        "largest difference between a logit there and here "
        f"{np.abs(served - expected).max():.1e}"
    )


def main():
    parser = argparse.ArgumentParser(
        description="Trains on two sensors, jointly and balanced."
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs a method")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default="quickstart_output")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.epochs) < 1:
        parser.error("--seeds and --epochs must be at least 1")
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    train_set, test_set = load_watch()
    print(
        f"{len(train_set[1])} windows of six people to train on, "
        f"{len(test_set[1])} of four others to test on.\n"
        "Below, a bar a run, with the accuracy on the latter."
    )
    scores, curves = {}, {}
    for build, method in ROWS:
        title = f"{build.__name__.capitalize()}: {method}"
        print(f"\n{title}")
        runs, histories = [], []
        for seed in range(arguments.seeds):
            model, history = train(
                build,
                COMBINERS[method](),
                seed,
                arguments.epochs,
                train_set,
                test_set,
            )
            runs.append(score(model, test_set))
            histories.append(history)
        scores[title] = runs
        if build is intermediate:
            curves[method], served = histories, model
    picture = arguments.output / "quickstart.png"
    draw(curves, picture)
    print()
    serve(served, *test_set, arguments.output)
    print()
    print_table(scores, test_set[1])
    print(f"{machine()}; {time.perf_counter() - start:.0f} s in all.")
    print(f"\nTraining curves: {picture}")


# From here on nothing trains: what is left prints and draws.


class RunBar(keras.callbacks.Callback):
    """One Keras progress bar a run, where `fit()` draws one an epoch."""

    def on_train_begin(self, logs=None):
        self.bar = keras.utils.Progbar(
            self.params["epochs"],
            width=10,
            # Without a terminal, the finished bar only.
            verbose=1 if sys.stdout.isatty() else 2,
            stateful_metrics=OUTPUTS,
            unit_name="epoch",
        )

    def on_epoch_end(self, epoch, logs=None):
        values = [(name, logs[f"val_{name}_accuracy"]) for name in OUTPUTS]
        self.bar.update(epoch + 1, values)


def print_table(scores, y_test):
    seeds = len(next(iter(scores.values())))
    rows = [["accuracy in %", *COLUMNS]]
    for method, runs in scores.items():
        rows.append([method, *map(mean_and_spread, 100 * np.transpose(runs))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":" + "-" * (widths[0] - 1)]
    rule += ["-" * (width - 1) + ":" for width in widths[1:]]
    for row in (rows[0], rule, *rows[1:]):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1])]
        cells += [cell.rjust(width) for cell, width in others]
        print("|", " | ".join(cells), "|")
    over = f", mean ± standard deviation over {seeds} seeds"
    frequent = 100 * np.bincount(y_test).max() / len(y_test)
    caption = (
        f"On the {len(y_test)} windows of people not seen in training"
        f"{over if seeds > 1 else ''}. Always answering the most frequent "
        f"class scores {frequent:.1f}. A lost sensor reads its training "
        "average all the time, and the model is not told."
    )
    print("\n" + textwrap.fill(caption, 88))


def mean_and_spread(values):
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def machine():
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    backend = keras.backend.backend()
    versions = {
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
        "keras_mimo": keras_mimo.__version__,
        "Python": platform.python_version(),
    }
    software = ", ".join(f"{name} {v}" for name, v in versions.items())
    return f"{cpu}, {os.cpu_count()} cores; {software}"


def draw(curves, path):
    """One panel an output, one line a method: mean and range over seeds."""
    alone = {name: f"{sensor} alone" for name, sensor in SENSORS.items()}
    titles = {name: title.capitalize() for name, title in alone.items()}
    figure = keras_mimo.plots.training_curves(
        curves,
        "accuracy",
        outputs=OUTPUTS,
        titles={"fused": "Both sensors, fused", **titles},
        colors=COLORS,
    )
    figure.suptitle(finding(curves), weight="bold", fontsize=15)
    figure.supxlabel(
        "Intermediate fusion, on people not seen in training. Line: mean over "
        "seeds; band: lowest to highest.",
        fontsize=11.5,
        color="#444444",
    )
    figure.savefig(path)


def finding(curves):
    def alone(method):
        runs = curves[method]
        ends = [
            np.mean([run[f"val_{name}_accuracy"][-1] for run in runs])
            for name in SENSORS
        ]
        return " and ".join(f"{100 * end:.0f}" for end in ends)

    return (
        f"Alone, the sensors reach {alone('Joint loss')} % after joint "
        f"training, {alone('MIMO')} % with MIMO"
    )


if __name__ == "__main__":
    main()
