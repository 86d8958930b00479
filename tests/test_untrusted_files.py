"""A file from elsewhere runs no code when it is loaded."""

import builtins
import json
import os
import pickle
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers
from keras.activations import relu

import keras_mimo
from keras_mimo.datasets.safe_numpy import load_pickle


def saved(path, middle=None, **options):
    inputs = keras.Input((2,))
    shared = (middle or layers.Dense(3))(inputs)
    outputs = {name: layers.Dense(1, name=name)(shared) for name in "ab"}
    model = keras_mimo.BalancedModel(inputs, outputs)
    arguments = {"loss": "mse", "combiner": "mgda", **options}
    model.compile("sgd", **arguments)
    model.fit(np.ones((4, 2)), {n: np.ones((4, 1)) for n in "ab"}, verbose=0)
    model.save(path)
    return path


def forged(path, change):
    """Rewrites the configuration in a file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_lambda_layer(tmp_path):
    middle = layers.Lambda(lambda x: 2 * x, output_shape=(2,))
    path = saved(tmp_path / "model.keras", middle)
    with pytest.raises(ValueError, match="arbitrary code execution"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, safe_mode=False)
    assert isinstance(loaded, keras_mimo.BalancedModel)


def test_a_lambda_loss(tmp_path):
    path = saved(tmp_path / "model.keras", loss=lambda y, p: (y - p) ** 2)
    with pytest.raises(ValueError, match="arbitrary code execution"):
        keras.saving.load_model(path)


@pytest.mark.parametrize("argument", ["combiner", "objectives", "loss"])
def test_a_class_that_is_no_keras_object(tmp_path, argument):
    marker = tmp_path / "ran"
    code = f"open({str(marker)!r}, 'w')"
    process = {
        "module": "subprocess",
        "class_name": "Popen",
        "config": {"args": [sys.executable, "-c", code]},
        "registered_name": "Popen",
    }
    path = saved(tmp_path / "model.keras")
    forged(path, lambda c: c["compile_config"].update({argument: process}))
    with pytest.raises(TypeError, match="locate class 'Popen'"):
        keras.saving.load_model(path)
    assert not marker.exists()


def test_a_function_that_is_no_keras_object(tmp_path):
    getcwd = {
        "module": "os",
        "class_name": "function",
        "config": "getcwd",
        "registered_name": "getcwd",
    }
    path = saved(tmp_path / "model.keras")
    forged(path, lambda c: c["compile_config"].update(blocks=getcwd))
    with pytest.raises(TypeError, match="locate function 'getcwd'"):
        keras.saving.load_model(path)


@pytest.mark.parametrize("argument", ["balanced_variables", "blocks"])
def test_a_function_that_loading_would_call(tmp_path, argument):
    """Of Keras itself, which is found in safe mode too."""
    path = saved(tmp_path / "model.keras")

    def change(config):
        function = keras.saving.serialize_keras_object(relu)
        config["compile_config"][argument] = function

    forged(path, change)
    with pytest.raises(ValueError, match=f"`{argument}` of a saved model"):
        keras.saving.load_model(path)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("depth", ["whole", "part", "object array", "key"])
def test_a_pickle_that_calls_what_it_names(tmp_path, depth, protocol):
    marker = tmp_path / "ran"
    call = Call(os.system, f"touch {marker}")
    content = {
        "whole": call,
        "part": {"train": {"text": np.ones((2, 50, 3)), "id": [call]}},
        "object array": {"id": np.array([[call]], object)},
        "key": {call: 1},
    }[depth]
    path = tmp_path / "clips.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(pickle.UnpicklingError) as error:
        load_pickle(path)
    assert f"`{os.system.__module__}.system`" in str(error.value)
    assert str(path) in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (builtins.eval, ("1",)),
        (np.load, ("x.npy",)),
        (np.frombuffer, (b"ab",)),
        (pickle.loads, (b"N.",)),
        (keras.saving.load_model, ("x.keras",)),
    ],
)
def test_a_pickle_that_calls_what_is_installed(tmp_path, function, args):
    path = tmp_path / "clips.pkl"
    path.write_bytes(pickle.dumps({"train": Call(function, *args)}))
    with pytest.raises(pickle.UnpicklingError, match=r"it holds `\w+"):
        load_pickle(path)
