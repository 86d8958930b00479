"""Dicts of inputs that are not in alphabetical order.

On PyTorch Keras sorts dicts at the top and nowhere else, so that a model could
take one input for the other: there, or on the backend that reads its file.
"""

import os
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo

BACKEND = keras.backend.backend()
READ = """
import pickle, sys
import keras
import keras_mimo

x, expected = pickle.load(open("data.pickle", "rb"))
model = keras.saving.load_model("model.keras")
predicted = model.predict(x, verbose=0)
for name, value in expected.items():
    error = abs(value - predicted[name]).max()
    assert error < 1e-4, (keras.backend.backend(), name, error)
"""


def text_encoder():
    """Inputs of which an exchange changes the features by far."""
    inputs = {
        "token_ids": keras.Input((3,), name="token_ids"),
        "padding_mask": keras.Input((3,), name="padding_mask"),
    }
    x = layers.Dense(4)(inputs["token_ids"])
    y = layers.Dense(4)(layers.Rescaling(100.0)(inputs["padding_mask"]))
    return keras.Model(inputs, layers.Add()([x, y]))


def nested_encoder():
    z, y, x = (keras.Input((3,), name=name) for name in "zyx")
    parts = [
        layers.Dense(4)(layers.Rescaling(scale)(part))
        for scale, part in ((1.0, z), (10.0, y), (100.0, x))
    ]
    return keras.Model({"q": {"z": z, "y": y}, "p": x}, layers.Add()(parts))


def model_and_data():
    rng = np.random.default_rng(0)

    def values():
        return rng.normal(size=(5, 3)).astype("float32")

    model = keras_mimo.late_fusion(
        {
            "text": text_encoder(),
            "scan": nested_encoder(),
            "image": keras.Sequential([keras.Input((3,)), layers.Dense(4)]),
        },
        num_classes=2,
    )
    x = {
        "text": {"token_ids": values(), "padding_mask": values()},
        "scan": {"q": {"z": values(), "y": values()}, "p": values()},
        "image": values(),
    }
    return model, x


def in_other_order(structure):
    if not isinstance(structure, dict):
        return structure
    return {k: in_other_order(structure[k]) for k in reversed(structure)}


def by_hand(model, x):
    """The logits of a modality, of its encoder alone."""
    text = model.get_layer("text_encoder")
    inner = {layer.name: layer for layer in text.layers}["functional"]
    token_ids, padding_mask = [
        layer for layer in inner.layers if isinstance(layer, layers.Dense)
    ]
    features = token_ids(x["text"]["token_ids"])
    features = features + padding_mask(100.0 * x["text"]["padding_mask"])
    logits = model.get_layer("text_head")(features)
    return keras.ops.convert_to_numpy(logits)


def test_inputs_go_by_their_names():
    model, x = model_and_data()
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(expected["text"], by_hand(model, x), rtol=1e-4)
    assert list(model.input["text"]) == ["token_ids", "padding_mask"]
    assert list(model.input["scan"]["q"]) == ["z", "y"]
    y = np.array([0, 1, 0, 1, 0])
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    loss = model.evaluate(x, y, verbose=0)
    for other in (in_other_order(x), keras.tree.map_structure(np.copy, x)):
        predicted = model.predict(other, verbose=0)
        for name, value in expected.items():
            np.testing.assert_array_equal(predicted[name], value)
        assert model.evaluate(other, y, verbose=0) == loss


def test_files_keep_what_is_whose(tmp_path):
    model, x = model_and_data()
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (x, in_other_order(x)):
        predicted = loaded.predict(other, verbose=0)
        for name, value in expected.items():
            np.testing.assert_allclose(predicted[name], value, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["tensorflow", "jax", "torch"])
def test_every_backend_reads_the_file(reader, tmp_path):
    model, x = model_and_data()
    model.save(tmp_path / "model.keras")
    expected = model.predict(x, verbose=0)
    (tmp_path / "data.pickle").write_bytes(pickle.dumps((x, expected)))
    process = subprocess.run(
        [sys.executable, "-c", READ],
        cwd=tmp_path,
        env={
            **os.environ,
            "KERAS_BACKEND": reader,
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        },
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_exports_take_inputs_by_their_names(tmp_path):
    import tensorflow as tf
    from onnxruntime import InferenceSession

    model, x = model_and_data()
    expected = model.predict(x, verbose=0)["fused"]
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    tensors = keras.tree.map_structure(tf.constant, in_other_order(x))
    actual = served.serve(tensors)["fused"]
    np.testing.assert_allclose(actual, expected, rtol=1e-4)

    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = InferenceSession(tmp_path / "model.onnx")
    flat = {
        "_".join(path): value for path, value in keras.tree.flatten_with_path(x)
    }
    names = {i.name.split(":")[0]: i.name for i in session.get_inputs()}
    assert set(names) == set(flat)
    (actual,) = session.run(None, {names[n]: v for n, v in flat.items()})
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
