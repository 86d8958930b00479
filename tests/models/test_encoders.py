"""The encoders as parts of a model that is trained, saved and served."""

import os
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.models import ResNet18
from keras_mimo.models import Transformer
from keras_mimo.models import frames
from keras_mimo.models import spectrogram
from keras_mimo.models import text_encoder
from tests.models.backbones import backbone

READ = """
import pickle
import keras
import keras_mimo

x, expected = pickle.load(open("data.pickle", "rb"))
predicted = keras.saving.load_model("model.keras").predict(x, verbose=0)
for name, value in expected.items():
    error = abs(value - predicted[name]).max()
    assert error < 1e-4, (keras.backend.backend(), name, error)
"""
SERVE = """
import sys

sys.modules["keras_mimo"] = None
import pickle
import tensorflow as tf

x, expected = pickle.load(open("data.pickle", "rb"))
served = tf.saved_model.load("served")
for samples in (6, 1):
    outputs = served.serve({k: tf.constant(v[:samples]) for k, v in x.items()})
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        error = abs(value[:samples] - outputs[name].numpy()).max()
        assert error < 1e-4, (name, error)
"""


def sequences():
    """Encoders of sequences, and inputs of which one has but padding."""
    encoders = {
        "sensor": Transformer((6, 5), 8, layers=1, heads=2),
        "text": text_encoder(20, 7, 8, layers=1, heads=2),
        "bert": text_encoder(backbone=backbone(), length=7),
    }
    rng = np.random.default_rng(0)
    x = {"sensor": rng.normal(size=(6, 6, 5)).astype("float32")}
    for name in ("text", "bert"):
        x[name] = rng.integers(1, 20, (6, 7)).astype("int32")
        x[name][:, 4:] = 0
    for values in x.values():
        values[0] = 0
    return encoders, x


def pictures_and_sound():
    encoders = {
        "video": frames(ResNet18((16, 16), filters=2), 2),
        "sound": spectrogram(
            400, 64, 50, encoder=ResNet18((33, 9), channels=1, filters=2)
        ),
        "distilbert": text_encoder(
            backbone=backbone(pooled=False, segments=False), length=7
        ),
    }
    rng = np.random.default_rng(0)
    x = {
        "video": rng.normal(size=(6, 2, 16, 16, 3)).astype("float32"),
        "sound": rng.normal(size=(6, 400)).astype("float32"),
        "distilbert": rng.integers(0, 20, (6, 7)).astype("int32"),
    }
    return encoders, x


def trained(encoders, x, **arguments):
    model = keras_mimo.late_fusion(encoders, num_classes=3, **arguments)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )
    before = model.get_weights()
    history = model.fit(x, np.arange(6) % 3, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    # Every encoder learns.
    after = model.get_weights()
    assert all(np.all(np.isfinite(value)) for value in after)
    for variable, old, new in zip(model.weights, before, after, strict=True):
        if variable.trainable and "kernel" in variable.path:
            assert (old != new).any(), variable.path
    return model


def check_saved(model, x, folder):
    predicted = model.predict(x, verbose=0)
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    for name, value in loaded.predict(x, verbose=0).items():
        np.testing.assert_allclose(value, predicted[name], atol=1e-5)
    with open(folder / "data.pickle", "wb") as file:
        pickle.dump((x, predicted), file)


@pytest.mark.slow
def test_sequences_train_and_are_saved(tmp_path):
    encoders, x = sequences()
    check_saved(trained(encoders, x), x, tmp_path)


@pytest.mark.slow
def test_texts_may_be_missing():
    encoders, x = sequences()
    model = trained(encoders, x, missing={"text": 0, "sensor": 0})
    predicted = model.predict(x, verbose=0)
    np.testing.assert_array_equal(predicted["text"][0], 0)
    np.testing.assert_allclose(
        predicted["fused"][0], predicted["bert"][0], rtol=1e-5
    )


def run(script, folder, backend):
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("given", [sequences, pictures_and_sound])
def test_they_are_read_and_served_elsewhere(given, tmp_path):
    encoders, x = given()
    model = trained(encoders, x)
    check_saved(model, x, tmp_path)
    # TensorFlow is there whatever the backend under test is.
    run(READ, tmp_path, "tensorflow")
    model.export(tmp_path / "served", outputs="all", verbose=False)
    run(SERVE, tmp_path, "tensorflow")
