import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from tests.quick import quick

BACKEND = keras.backend.backend()


def two_sensors():
    encoders = {
        "accel": keras.Sequential(
            [
                keras.Input((12, 3)),
                layers.Conv1D(4, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.GlobalAveragePooling1D(),
                layers.Dropout(0.5),
            ],
            name="accel",
        ),
        "gyro": keras.Sequential(
            [keras.Input((5,)), layers.Dense(4, activation="tanh")]
        ),
    }
    return keras_mimo.late_fusion(encoders, num_classes=3, fusion="concat")


def readings(samples=20):
    rng = np.random.default_rng(1)
    return {
        "accel": rng.normal(size=(samples, 12, 3)).astype("float32"),
        "gyro": rng.normal(size=(samples, 5)).astype("float32"),
    }


def train(model):
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )
    y = np.random.default_rng(2).integers(0, 3, 20)
    model.fit(readings(), y, verbose=0)
    return model


def two_tasks(as_dict=True):
    x = keras.Input((5,), name="x")
    # The names of the layers are not those of the outputs.
    depth = layers.Dense(1, name="depth_head")(x)
    label = layers.Dense(4, name="label_head")(x)
    outputs = {"depth": depth, "label": label} if as_dict else [depth, label]
    return keras_mimo.BalancedModel(x, outputs, name="tasks")


def test_the_fused_output_alone_is_kept():
    model = train(two_sensors())
    plain = keras_mimo.inference_model(model)
    x = keras.Input((2,))
    assert type(plain) is type(keras.Model(x, layers.Dense(1)(x)))
    assert plain.name == model.name
    assert not plain.compiled
    assert {k: t.name for k, t in plain.input.items()} == {
        "accel": "accel",
        "gyro": "gyro",
    }
    names = {layer.name for layer in plain.layers}
    assert not names & {"accel_head", "gyro_head"}
    expected = model.predict(readings(), verbose=0)["fused"]
    actual = plain.predict(readings(), verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_later_training_is_seen():
    model = two_sensors()
    plain = keras_mimo.inference_model(model)
    before = plain.predict(readings(), verbose=0)
    train(model)
    after = plain.predict(readings(), verbose=0)
    assert np.max(np.abs(after - before)) > 1e-3
    expected = model.predict(readings(), verbose=0)["fused"]
    np.testing.assert_allclose(after, expected, atol=1e-6)


def test_the_model_can_still_be_trained_and_saved(tmp_path):
    model = two_sensors()
    keras_mimo.inference_model(model)
    train(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert set(loaded.output) == {"fused", "accel", "gyro"}


def test_another_output_can_be_kept():
    model = two_sensors()
    plain = keras_mimo.inference_model(model, "gyro")
    expected = model.predict(readings(), verbose=0)["gyro"]
    actual = plain.predict(readings(), verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_all_outputs_are_kept_where_none_is_fused():
    model = two_tasks()
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    expected = model.predict(x, verbose=0)
    plain = keras_mimo.inference_model(model)
    assert not isinstance(plain, keras_mimo.BalancedModel)
    actual = plain.predict(x, verbose=0)
    assert actual.keys() == {"depth", "label"}
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-6)
    label = keras_mimo.inference_model(model, "label").predict(x, verbose=0)
    np.testing.assert_allclose(label, expected["label"], atol=1e-6)


def test_outputs_of_a_list_go_by_the_names_of_their_layers():
    model = two_tasks(as_dict=False)
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    _, expected = model.predict(x, verbose=0)
    plain = keras_mimo.inference_model(model, "label_head")
    np.testing.assert_allclose(plain.predict(x, verbose=0), expected, atol=1e-6)
    assert len(keras_mimo.inference_model(model).outputs) == 2


def test_unknown_output():
    with pytest.raises(
        ValueError, match=r"\['depth', 'label'\].*output='fused'"
    ):
        keras_mimo.inference_model(two_tasks(), "fused")


class Subclassed(keras.Model):
    def call(self, x):
        return {"fused": x}


@pytest.mark.parametrize("model", [Subclassed, list])
def test_only_functional_models_can_be_cut(model):
    with pytest.raises(
        ValueError, match=r"must be a functional model.*keras\.Model\.export"
    ):
        keras_mimo.inference_model(model())


# Loading, where keras_mimo can't be imported.


def run_elsewhere(code, folder, backend):
    """Runs code in a fresh process that cannot import keras_mimo."""
    blocked = "import sys\nsys.modules['keras_mimo'] = None\n"
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", blocked + textwrap.dedent(code)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def write(model, folder):
    """Saves models and, in a new batch size, data and predictions."""
    keras_mimo.inference_model(model).save(folder / "plain.keras")
    model.save(folder / "whole.keras")
    x = readings(7)
    expected = model.predict(x, verbose=0)["fused"]
    np.savez(folder / "data.npz", expected=expected, **x)


LOAD = """
    import keras
    import numpy as np

    data = dict(np.load("data.npz"))
    expected = data.pop("expected")
    model = keras.models.load_model("plain.keras")
    actual = model.predict(data, verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-5)

    try:
        keras.models.load_model("whole.keras")
    except TypeError:
        pass
    else:
        raise AssertionError("keras_mimo was not out of reach")
"""


@pytest.mark.parametrize(
    "backend", quick(["tensorflow"], sorted({BACKEND, "tensorflow"}))
)
def test_a_trained_model_serves_elsewhere(backend, tmp_path):
    model = train(two_sensors())
    write(model, tmp_path)
    run_elsewhere(LOAD, tmp_path, backend)
