"""What `export()` writes is served where there is no keras_mimo."""

import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.export import export_model
from keras_mimo.export.formats import BY_TENSORFLOW
from tests.backends import KERAS
from tests.export.test_inference_model import two_sensors

BACKEND = keras.backend.backend()
NAMES = ["fused", "accel", "gyro"]

SERVE = """
import sys

sys.modules["keras_mimo"] = None
import numpy as np
import tensorflow as tf

data = dict(np.load("data.npz"))
x = {name: tf.constant(data[name]) for name in ("accel", "gyro")}
kept = {"fused": ["fused"], "all": ["accel", "fused", "gyro"]}
for folder, names in kept.items():
    served = tf.saved_model.load(folder)
    # As TensorFlow Serving calls it, by names.
    signature = served.signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == set(x)
    for samples in (7, 1):
        batch = {name: value[:samples] for name, value in x.items()}
        for outputs in (signature(**batch), served.serve(batch)):
            assert sorted(outputs) == names
            for name in names:
                expected = data["predicted_" + name][:samples]
                actual = outputs[name].numpy()
                np.testing.assert_allclose(actual, expected, atol=1e-5)
served = tf.saved_model.load("tasks")
for name, value in served.serve(data["tasks"]).items():
    expected = data["predicted_" + name]
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-5)
"""


SERVE_FILES = """
import sys

sys.modules["keras_mimo"] = None
import numpy as np

data = dict(np.load("data.npz"))
names = {"fused": ["fused"], "all": ["accel", "fused", "gyro"]}


def onnx(name):
    import onnxruntime

    session = onnxruntime.InferenceSession(f"{name}.onnx")
    assert {i.name for i in session.get_inputs()} == {"accel", "gyro"}
    return lambda x: session.run(None, x)


def openvino(name):
    import openvino

    # Its default is half precision, on processors that have it.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(f"{name}.xml", "CPU", options)
    return lambda x: list(compiled(x).values())


for name, outputs in names.items():
    predict = {"onnx": onnx, "openvino": openvino}[sys.argv[1]](name)
    for samples in (7, 1):
        x = {i: data[i][:samples] for i in ("accel", "gyro")}
        # Dicts are in the order of their keys.
        for value, output in zip(predict(x), outputs, strict=True):
            expected = data["predicted_" + output][:samples]
            np.testing.assert_allclose(value, expected, atol=1e-5)
"""


def readings():
    rng = np.random.default_rng(1)
    return {
        "accel": rng.normal(size=(7, 12, 3)).astype("float32"),
        "gyro": rng.normal(size=(7, 5)).astype("float32"),
    }


def trained_two_sensors():
    model = two_sensors()
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MGDACombiner(),
    )
    model.fit(readings(), np.arange(7) % 3, epochs=3, verbose=0)
    return model


def serve(script, folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def tasks():
    x = keras.Input((5,), name="x")
    outputs = {
        "depth": layers.Dense(1, name="depth")(x),
        "label": layers.Dense(4, name="label")(x),
    }
    return keras_mimo.BalancedModel(x, outputs)


@pytest.mark.slow
def test_saved_models_are_served_elsewhere(tmp_path):
    model, others = trained_two_sensors(), tasks()
    model.export(tmp_path / "fused", verbose=False)
    model.export(tmp_path / "all", outputs="all", verbose=False)
    others.export(str(tmp_path / "tasks"), verbose=False)
    x = readings()
    predicted = {
        **model.predict(x, verbose=0),
        **others.predict(x["gyro"], verbose=0),
    }
    predicted = {f"predicted_{name}": v for name, v in predicted.items()}
    np.savez(tmp_path / "data.npz", tasks=x["gyro"], **x, **predicted)
    serve(SERVE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "format, suffix", [("onnx", "onnx"), ("openvino", "xml")]
)
def test_other_formats_are_served_elsewhere(format, suffix, tmp_path):
    model = trained_two_sensors()

    def export(outputs):
        path = str(tmp_path / f"{outputs}.{suffix}")
        model.export(path, format, outputs=outputs, verbose=False)

    if (format, BACKEND) == ("onnx", "torch") and KERAS < (3, 15):
        with pytest.raises(ValueError, match="doesn't support dictionaries"):
            export("fused")
        return
    if format == "openvino" and KERAS < (3, 13):
        # It asks for a part of openvino that is there no more.
        with pytest.raises((ImportError, RuntimeError), match=r"\.runtime'"):
            export("fused")
        return
    export("fused")
    export("all")
    x = readings()
    predicted = model.predict(x, verbose=0)
    predicted = {f"predicted_{name}": v for name, v in predicted.items()}
    np.savez(tmp_path / "data.npz", **x, **predicted)
    serve(SERVE_FILES, tmp_path, format)


@pytest.mark.slow
def test_litert_takes_any_batch_size(tmp_path):
    model = trained_two_sensors()
    path = tmp_path / "model.tflite"
    if KERAS < (3, 13):
        # Raised here or in the process that runs TensorFlow.
        with pytest.raises((ValueError, RuntimeError), match="format=litert"):
            model.export(path, format="litert", verbose=False)
        return
    model.export(path, format="litert", verbose=False)
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    x = readings()
    expected = model.predict(x, verbose=0)["fused"]
    inputs = {
        name: detail["index"]
        for detail in interpreter.get_input_details()
        for name in x
        if name in detail["name"]
    }
    assert inputs.keys() == x.keys()
    for samples in (7, 1):
        for name, index in inputs.items():
            shape = (samples, *x[name].shape[1:])
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
        for name, index in inputs.items():
            interpreter.set_tensor(index, x[name][:samples])
        interpreter.invoke()
        (output,) = interpreter.get_output_details()
        actual = interpreter.get_tensor(output["index"])
        np.testing.assert_allclose(actual, expected[:samples], atol=1e-5)


def test_the_output_that_is_asked_for_is_exported(tmp_path):
    model, x = two_sensors(), readings()
    path = tmp_path / "gyro.onnx"

    def export():
        model.export(str(path), "onnx", outputs="gyro", verbose=False)

    if BACKEND == "torch" and KERAS < (3, 15):
        with pytest.raises(ValueError, match="doesn't support dictionaries"):
            export()
        return
    export()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    taken = {i.name: x[i.name][:3] for i in session.get_inputs()}
    (served,) = session.run(None, taken)
    expected = model.predict(x, verbose=0)["gyro"][:3]
    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_unknown_outputs(tmp_path):
    with pytest.raises(ValueError, match=r"'gyro'\].*outputs='depth'"):
        two_sensors().export(tmp_path / "model", outputs="depth")
    with pytest.raises(ValueError, match="Unrecognized format=pickle"):
        two_sensors().export(tmp_path / "model", format="pickle")


def test_export_takes_what_keras_takes():
    keras_signature = inspect.signature(keras.Model.export)
    ours = inspect.signature(keras_mimo.BalancedModel.export)
    assert ours == keras_signature
    ours = dict(inspect.signature(keras_mimo.MultimodalModel.export).parameters)
    assert ours.pop("outputs").default == "fused"
    assert ours == dict(keras_signature.parameters)


def test_what_another_process_must_do(tmp_path, monkeypatch):
    """Only TensorFlow needs none."""
    assert (BACKEND in BY_TENSORFLOW) == (BACKEND != "tensorflow")
    for format in BY_TENSORFLOW.get(BACKEND, ()):
        with pytest.raises(ValueError, match=f"the backend '{BACKEND}' can't"):
            two_sensors().export(tmp_path / "m", format, input_signature=[None])
        with monkeypatch.context() as patch:
            # As if it were not installed.
            patch.setitem(sys.modules, "tensorflow", None)
            with pytest.raises(ImportError, match="pip install tensorflow"):
                two_sensors().export(tmp_path / "m", format)
    assert os.listdir(tmp_path) == []


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Unknown(layers.Layer):
    """A layer that no other process can import."""

    def call(self, x):
        return x


Unknown.__module__ = "nowhere"


@pytest.mark.slow
def test_failures_of_the_other_process_are_told(tmp_path, monkeypatch):
    x = keras.Input((3,))
    model = keras.Model(x, Unknown()(x))
    model.predict(np.ones((1, 3)), verbose=0)
    path = tmp_path / "model"
    if BACKEND != "torch":
        export_model(model, path, verbose=False)
        assert (path / "saved_model.pb").exists()
        return
    with pytest.raises(RuntimeError, match=r"(?s)can import.*Unknown"):
        export_model(model, path, verbose=False)
    assert not path.exists()
