"""The callbacks of Keras, all of them in one run."""

import csv
import os

import keras
import numpy as np
import pytest
from keras import callbacks
from keras import layers
from keras import ops

import keras_mimo

NAMES = ["fused", "left", "right"]
RATE = 0.01


def data(samples=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 4)).astype("float32")
    y = {
        name: np.tanh(x @ rng.normal(size=(4, 1))).astype("float32")
        for name in NAMES
    }
    return x, y


def compiled(combiner):
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(RATE), "mse", combiner=combiner)
    return model


class Batches(callbacks.Callback):
    """A callback of a user's own."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))


def scalars(folder):
    """What the event files in a folder hold: tag -> values by step."""
    import tensorflow as tf

    found = {}
    for name in os.listdir(folder):
        for record in tf.data.TFRecordDataset(str(folder / name)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append(
                        float(tf.make_ndarray(value.tensor))
                    )
    return found


def read_csv(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows] for key in rows[0]}


def assert_same_series(actual, expected):
    assert actual.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(actual[key], expected[key], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "combiner", [keras_mimo.MIMOCombiner, keras_mimo.MGDACombiner]
)
def test_all_together(combiner, tmp_path):
    model = compiled(combiner())
    batches = Batches()
    weights = []
    history = model.fit(
        *data(),
        validation_data=data(),
        batch_size=8,
        epochs=9,
        verbose=0,
        callbacks=[
            # In front of those that change the learning rate when it looks.
            callbacks.TensorBoard(tmp_path / "logs", histogram_freq=1),
            callbacks.LearningRateScheduler(lambda epoch, rate: 0.9 * rate),
            # The first epoch counts as the best, whatever comes.
            callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=0.5, patience=1, min_delta=9
            ),
            callbacks.EarlyStopping(
                monitor="val_left_loss",
                # Which way is better Keras knows of `val_loss` only.
                mode="min",
                patience=3,
                min_delta=9,
                restore_best_weights=True,
            ),
            callbacks.CSVLogger(tmp_path / "log.csv"),
            callbacks.TerminateOnNaN(),
            callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
            callbacks.BackupAndRestore(tmp_path / "backup"),
            callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: weights.append(
                    model.get_weights()
                )
            ),
            batches,
        ],
    ).history

    assert len(history["loss"]) == 4
    rates = history.pop("learning_rate")
    expected = [0.9, 0.9**2, 0.9**3 / 2, 0.9**4 / 4]
    np.testing.assert_allclose(rates, RATE * np.array(expected), rtol=1e-5)
    losses = {"loss", *(f"{name}_loss" for name in NAMES)}
    reported = {f"{name}_weight" for name in NAMES}
    if combiner is keras_mimo.MGDACombiner:
        reported.add("conflict")
    validation = {f"val_{name}" for name in losses}
    assert history.keys() == losses | reported | validation

    logged = read_csv(tmp_path / "log.csv")
    assert logged.pop("epoch") == [0, 1, 2, 3]
    assert_same_series(logged, {**history, "learning_rate": rates})

    train = scalars(tmp_path / "logs" / "train")
    np.testing.assert_allclose(
        train.pop("epoch_learning_rate"), rates, rtol=1e-5
    )
    assert_same_series(
        train, {f"epoch_{k}": history[k] for k in losses | reported}
    )
    shown = scalars(tmp_path / "logs" / "validation")
    for name in losses:
        np.testing.assert_allclose(
            shown[f"epoch_{name}"], history[f"val_{name}"], rtol=1e-5
        )

    # The best weights are back: those of the first epoch.
    for actual, best in zip(model.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(actual, best)
    for epoch in range(1, 5):
        loaded = keras.saving.load_model(tmp_path / f"{epoch}.keras")
        saved = zip(loaded.get_weights(), weights[epoch - 1], strict=True)
        for actual, expected in saved:
            np.testing.assert_array_equal(actual, expected)
    assert not (tmp_path / "backup").exists()

    assert len(batches.logs) == 16
    for logs in batches.logs:
        assert logs.keys() == losses | reported
        total = sum(float(logs[f"{name}_weight"]) for name in NAMES)
        if combiner is keras_mimo.MGDACombiner:
            np.testing.assert_allclose(total, 1, rtol=1e-5)


@pytest.mark.parametrize(
    "combiner", [keras_mimo.MIMOCombiner, keras_mimo.MGDACombiner]
)
def test_nan_ends_the_run(combiner, tmp_path):
    model = compiled(combiner())
    x, y = data()
    y["left"][17] = np.nan
    batches = Batches()
    model.fit(
        x,
        y,
        batch_size=8,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[
            callbacks.TerminateOnNaN(),
            callbacks.CSVLogger(tmp_path / "log.csv"),
            batches,
        ],
    )
    # The third batch has it.
    assert len(batches.logs) == 3
    assert np.isfinite(float(batches.logs[1]["loss"]))
    assert np.isnan(float(batches.logs[2]["left_loss"]))
    for variable in model.combiner.variables:
        assert np.all(np.isfinite(ops.convert_to_numpy(variable)))
