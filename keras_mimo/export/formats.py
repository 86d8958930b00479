import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

# What Keras writes with TensorFlow only, or with PyTorch for one batch size;
# and ONNX on JAX, which takes it a package with dozens of dependencies.
BY_TENSORFLOW = {
    "jax": ("litert", "onnx", "openvino"),
    "torch": ("litert", "openvino", "tf_saved_model"),
}
SCRIPT = """
import sys

import keras
import keras_mimo

_, source, target, format, verbose = sys.argv
model = keras.saving.load_model(source, compile=False)
if hasattr(model, "output_names"):
    # Keras exports no model to ONNX that was never called.
    model(model.input)
keras.Model.export(model, target, format=format, verbose=verbose == "True")
"""


def export_model(
    model,
    filepath,
    format="tf_saved_model",
    verbose=None,
    input_signature=None,
    **kwargs,
):
    """`keras.Model.export()`, which writes more formats on JAX and PyTorch.

    Keras writes no SavedModel there, or no ONNX, LiteRT or OpenVINO file for
    any batch size. For these the model goes as a `.keras` file to a process in
    which the backend is TensorFlow, which must be installed. (Layers of your
    own must be importable there, so not be defined in a script.)

    Args:
        model: A Keras model.
        filepath: As in `keras.Model.export()`, like all arguments that follow.
        format: As in Keras.
        verbose: As in Keras.
        input_signature: As in Keras, but not for what TensorFlow must write.
        **kwargs: As in Keras, but not for what TensorFlow must write.

    Raises:
        ImportError: If TensorFlow is needed and not installed.
        ValueError: If an argument can't be given to the other process.
        RuntimeError: If the other process fails.
    """
    backend = keras.backend.backend()
    if format not in BY_TENSORFLOW.get(backend, ()):
        keras.Model.export(
            model,
            filepath,
            format=format,
            verbose=verbose,
            input_signature=input_signature,
            **kwargs,
        )
        return
    if input_signature is not None or kwargs:
        raise ValueError(
            "`input_signature` and other options can't be given where "
            f"TensorFlow writes what the backend {backend!r} can't. Received: "
            f"format={format!r}, input_signature={input_signature}, {kwargs}"
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            f"On the backend {backend!r}, `format={format!r}` is written by "
            "TensorFlow: `pip install tensorflow`. Or save "
            "`keras_mimo.inference_model(model)` as a `.keras` file, which any "
            "backend loads."
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.keras"
        model.save(source)
        process = subprocess.run(
            [
                sys.executable,
                "-c",
                SCRIPT,
                str(source),
                os.path.abspath(filepath),
                format,
                str(verbose is None or bool(verbose)),
            ],
            env={
                **os.environ,
                "KERAS_BACKEND": "tensorflow",
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            },
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    if process.returncode != 0:
        raise RuntimeError(
            "The export failed in the process that runs TensorFlow. Layers of "
            "your own must be in a module that it can import. It printed:\n"
            f"{process.stderr}"
        )
