"""Training runs that are killed, and resumed in another process.

Starting a process takes seconds, so that one process has many runs: the next
one starts where the one before is to be interrupted, inside of it, and the last
one kills the process in the middle of all of them.
"""

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path

import keras
import numpy as np
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import combiners

NAMES = ["fused", "left", "right"]
EPOCHS = 3
STEPS = 5
BATCH = 8

COMBINERS = {
    "uncertainty": combiners.UncertaintyCombiner,
    "mimo": keras_mimo.MIMOCombiner,
    "dwa": combiners.DWACombiner,
    "famo": combiners.FAMOCombiner,
    "rlw": lambda: combiners.RLWCombiner(seed=1),
    "every_n_smoothed": lambda: combiners.EveryN(
        combiners.Smoothed(keras_mimo.MGDACombiner(), of="gramian"), 4
    ),
    "gradvac_blocks": lambda: combiners.GradVacCombiner(seed=1),
}


SAVERS = {
    "backup": keras_mimo.callbacks.Backup,
    "keras_file": lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "model.keras"
    ),
    "backup_and_restore": keras.callbacks.BackupAndRestore,
    "weights_file": lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "model.weights.h5", save_weights_only=True
    ),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of training.

    Args:
        kind: String, which of `COMBINERS` it has.
        saver: String, which of `SAVERS` saves it after every epoch.
        interrupted: Where it is interrupted: after a batch, counted from the
            first, or `"saving"`: in the middle of the second save.
        dropout: `"seeded"`, `"unseeded"`, or `"no"` dropout.
    """

    kind: str
    saver: str = "backup"
    interrupted: int | str = 7
    dropout: str = "no"

    def __str__(self):
        return "-".join(map(str, dataclasses.astuple(self)))


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Fragile(layers.Layer):
    """Does nothing, but can be told to interrupt a save halfway."""

    interrupt = None

    def call(self, x):
        return x

    def save_own_variables(self, store):
        if self.interrupt is not None:
            self.interrupt()


class Interrupt(keras.callbacks.Callback):
    """Calls a function at the moment when a run is to be interrupted."""

    def __init__(self, moment, function):
        super().__init__()
        self.moment = moment
        self.function = function
        self.batches = 0

    def on_epoch_begin(self, epoch, logs=None):
        if self.moment == "saving" and epoch == 1:
            self.model.get_layer("fragile").interrupt = self.function

    def on_train_batch_end(self, batch, logs=None):
        if self.batches == self.moment:
            self.function()
        self.batches += 1


def build(cls=keras_mimo.BalancedModel, dropout="no"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="tanh", name="shared")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = Fragile(name="fragile")(x)
    if dropout != "no":
        x = layers.Dropout(0.5, seed=1 if dropout == "seeded" else None)(x)
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    return cls(inputs, outputs)


def compiled(run):
    model = build(dropout=run.dropout)
    model.compile(
        keras.optimizers.Adam(0.02),
        "mse",
        combiner=COMBINERS[run.kind](),
        # By their indices in `model.weights`.
        blocks={"dense": [0, 1], "norm": [2, 3]}
        if run.kind.endswith("_blocks")
        else "all",
    )
    return model


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 4)).astype("float32")
    y = {
        name: (k + 1) * np.tanh(x @ rng.normal(size=(4, 1))).astype("float32")
        for k, name in enumerate(NAMES)
    }
    return x, y


def fit(model, callbacks=(), **options):
    options = {"batch_size": BATCH, "epochs": EPOCHS, **options}
    model.fit(
        *data(), shuffle=False, verbose=0, callbacks=list(callbacks), **options
    )


def state(model):
    """All that a model is: weights, combiner, seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def uninterrupted(run):
    model = compiled(run)
    fit(model)
    return state(model)


def saver(run, folder):
    return SAVERS[run.saver](Path(folder) / str(run))


def elsewhere(function, *arguments):
    """Runs a function of this module in a new process; its exit code."""
    process = multiprocessing.get_context("spawn").Process(
        target=function, args=arguments
    )
    process.start()
    process.join()
    return process.exitcode


def killed(runs, folder):
    """Starts each run inside of the one before, and is killed in the last."""
    if not runs:
        os.kill(os.getpid(), signal.SIGKILL)
    run, *others = runs
    interrupt = Interrupt(run.interrupted, lambda: killed(others, folder))
    fit(compiled(run), [saver(run, folder), interrupt])


def resumed(runs, folder):
    """Resumes each run in a new process, and writes what comes of it."""
    for run in runs:
        np.savez(Path(folder) / f"{run}.npz", *state(resume(run, folder)))


def resume(run, folder):
    model, options = compiled(run), {}
    whole = Path(folder) / str(run) / "model.keras"
    weights = Path(folder) / str(run) / "model.weights.h5"
    if whole.exists():
        model = keras.saving.load_model(whole)
    elif weights.exists():
        # Before the first batch there is no combiner's state to load into.
        model.evaluate(*data(), verbose=0)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(weights)
    if whole.exists() or weights.exists():
        done = int(ops.convert_to_numpy(model.optimizer.iterations))
        options["initial_epoch"] = done // STEPS
    fit(model, [saver(run, folder)], **options)
    return model
