"""What the models of `keras_mimo.fusion` leave behind, read elsewhere."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import keras_mimo
from tests.export.test_inference_model import run_elsewhere
from tests.fusion import test_masked
from tests.fusion import test_unimodal_heads

BACKENDS = ["tensorflow", "jax", "torch"]
# Keras alone and the SavedModel, which take inputs by their names.
SERVE = """
    import keras
    import numpy as np
    import tensorflow as tf

    data = dict(np.load("data.npz"))
    expected = data.pop("fused")
    x = {k.removeprefix("x_"): v for k, v in data.items() if k[:2] == "x_"}
    model = keras.models.load_model("plain.keras")
    actual = model.predict(x, verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    artifact = tf.saved_model.load("served")
    served = artifact.serve({k: tf.constant(v) for k, v in x.items()})
    assert list(served) == ["fused"]
    np.testing.assert_allclose(served["fused"], expected, atol=1e-5)
"""
LOAD = """
    import keras
    import numpy as np
    import keras_mimo

    data = dict(np.load("data.npz"))
    x = {k.removeprefix("x_"): v for k, v in data.items() if k[:2] == "x_"}
    model = keras.models.load_model("whole.keras")
    assert type(model) is keras_mimo.MultimodalModel
    for name, actual in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(actual, data[name], atol=1e-5)
"""


def masked():
    names = ("a", "b")
    model = keras_mimo.mask_modalities(
        test_masked.early_fusion(names), absent="learnt"
    )
    return model, test_masked.readings(names)


def heads():
    model = keras_mimo.add_unimodal_heads(
        test_unimodal_heads.fused_model(),
        {"image": "maps", "text": "text_features"},
    )
    return model, test_unimodal_heads.posts()


@pytest.mark.slow
@pytest.mark.parametrize("make", [masked, heads])
def test_models_are_served_and_loaded_elsewhere(make, tmp_path):
    model, x = make()
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="mimo",
    )
    model.fit(x, test_masked.labels(), verbose=0)
    inputs = {f"x_{name}": array for name, array in x.items()}
    np.savez(tmp_path / "data.npz", **inputs, **model.predict(x, verbose=0))
    keras_mimo.inference_model(model).save(tmp_path / "plain.keras")
    model.export(tmp_path / "served", verbose=False)
    model.save(tmp_path / "whole.keras")
    run_elsewhere(SERVE, tmp_path, "tensorflow")
    for backend in BACKENDS:
        if backend != keras.backend.backend():
            load_elsewhere(tmp_path, backend)


def load_elsewhere(folder, backend):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOAD)],
        cwd=folder,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
