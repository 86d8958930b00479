import subprocess
import sys
import warnings

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import calibrate_fusion
from keras_mimo.fusion.calibration import raw_scales

CLASSES = 3
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder(width, activation="relu"):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(8, activation=activation)]
    )


def two_sensors(width=CLASSES, fusion="sum"):
    """The first sensor knows the class, the second is noise."""
    encoders = {"clear": encoder(6), "noise": encoder(5)}
    return keras_mimo.late_fusion(encoders, width, fusion=fusion)


def samples(number, seed, scale=2.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, number)
    clear = scale * np.eye(6)[y] + rng.normal(size=(number, 6))
    noise = 3 * rng.normal(size=(number, 5))
    x = {"clear": clear.astype("float32"), "noise": noise.astype("float32")}
    return x, y


TRAIN = samples(60, seed=1)
HELD_OUT = samples(400, seed=2)


def trained(fusion="sum"):
    model = two_sensors(fusion=fusion)
    model.compile(
        keras.optimizers.Adam(3e-2),
        CROSSENTROPY,
        metrics=["accuracy"],
        combiner="sum",
    )
    # Long enough to learn the noise by heart.
    fit(model, *TRAIN, steps=60)
    return model


def fit(model, x, y, steps):
    """Many steps on all of the data, which as epochs would take longer."""
    x = {name: np.tile(value, (steps, 1)) for name, value in x.items()}
    y = np.concatenate([y] * steps)
    model.fit(x, y, batch_size=len(y) // steps, shuffle=False, verbose=0)


@pytest.fixture(scope="module")
def shared():
    keras.utils.set_random_seed(0)
    return trained()


@pytest.fixture
def model(shared):
    shared.calibration = None
    return shared


@pytest.fixture
def eager(model):
    """The model without what it takes to compile it for each calibration."""
    model.run_eagerly = True
    model.predict_function = None
    yield model
    model.run_eagerly = False
    model.predict_function = None


def predict(model, x=HELD_OUT[0]):
    return model.predict(x, batch_size=200, verbose=0)


def calibrated(model, x=HELD_OUT[0], y=HELD_OUT[1], **kwargs):
    return calibrate_fusion(model, x, y, verbose=0, batch_size=200, **kwargs)


# Scores.


def test_scores_are_those_of_keras(model):
    x, y = HELD_OUT
    logs = model.evaluate(x, y, batch_size=400, verbose=0, return_dict=True)
    before = calibrated(model).before
    np.testing.assert_allclose(before["log_loss"], logs["fused_loss"], 1e-5)
    np.testing.assert_allclose(before["accuracy"], logs["fused_accuracy"], 1e-5)
    logs = model.evaluate(x, y, batch_size=400, verbose=0, return_dict=True)
    after = model.calibration.after
    np.testing.assert_allclose(after["log_loss"], logs["fused_loss"], 1e-5)
    np.testing.assert_allclose(after["accuracy"], logs["fused_accuracy"], 1e-5)


# What is summed.


def test_summed_logits_are_scaled_each():
    assert raw_scales(two_sensors()) == {"clear": 1.0, "noise": 1.0}


def test_other_fusions_are_scaled_with_their_heads():
    expected = {"fused": 1.0, "clear": 0.0, "noise": 0.0}
    assert raw_scales(two_sensors(fusion="concat")) == expected


def test_a_sum_of_something_else_is_no_sum_of_outputs():
    inputs = {name: keras.Input((2,), name=name) for name in ("a", "b")}
    outputs = {name: layers.Dense(3)(x) for name, x in inputs.items()}
    inner = layers.Add()([outputs["a"], layers.Dense(3)(inputs["b"])])
    model = keras_mimo.MultimodalModel(inputs, {"fused": inner, **outputs})
    assert raw_scales(model) == {"fused": 1.0, "a": 0.0, "b": 0.0}


def test_a_sum_of_some_of_the_outputs():
    inputs = {name: keras.Input((2,), name=name) for name in "abc"}
    outputs = {name: layers.Dense(3)(x) for name, x in inputs.items()}
    inner = layers.Add()([outputs["a"], outputs["a"], outputs["b"]])
    model = keras_mimo.MultimodalModel(inputs, {"fused": inner, **outputs})
    assert raw_scales(model) == {"a": 2.0, "b": 1.0, "c": 0.0}


# What it does to a model.


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_noise_is_silenced_and_the_log_loss_falls(fusion):
    model = trained(fusion)
    test = samples(1000, seed=3)

    before = model.evaluate(*test, batch_size=500, verbose=0, return_dict=True)
    calibration = calibrated(model, *samples(4000, seed=4))
    after = model.evaluate(*test, batch_size=500, verbose=0, return_dict=True)
    assert calibration.after["log_loss"] < calibration.before["log_loss"]
    assert after["fused_loss"] < 0.8 * before["fused_loss"]
    assert after["fused_accuracy"] > before["fused_accuracy"]
    assert calibration.scales["noise"] < 0.05
    assert calibration.scales["clear"] > 0.1
    assert after["clear_loss"] == before["clear_loss"]


def test_a_call_is_calibrated_in_inference_only(model):
    raw = predict(model)
    calibration = calibrated(model, bias=True)
    expected = calibration.bias + sum(
        scale * raw[name] for name, scale in calibration.scales.items()
    )
    np.testing.assert_allclose(predict(model)["fused"], expected, atol=1e-4)
    for training in (None, False, True):
        outputs = model(HELD_OUT[0], training=training)
        fused = ops.convert_to_numpy(outputs["fused"])
        wanted = raw["fused"] if training else expected
        np.testing.assert_allclose(fused, wanted, atol=1e-4)
        assert set(outputs) == set(model.output)


def test_reset_restores_predictions_exactly(model):
    before = predict(model)
    calibration = calibrated(model)
    assert model.calibration is calibration
    assert np.abs(predict(model)["fused"] - before["fused"]).max() > 0.1
    calibration.reset()
    assert model.calibration is None
    after = predict(model)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_only_the_latest_calibration_is_reset(eager):
    first, second = calibrated(eager), calibrated(eager, bias=True)
    # Fitted to the raw outputs each time.
    assert first.before == second.before
    first.reset()
    assert eager.calibration is second


def test_a_failure_leaves_the_calibration_as_it_was(eager):
    calibration = calibrated(eager)
    before = predict(eager)["fused"]
    with pytest.raises(ValueError, match="class ids"):
        calibrated(eager, y=HELD_OUT[1] + 7)
    assert eager.calibration is calibration
    np.testing.assert_array_equal(predict(eager)["fused"], before)


@pytest.mark.slow
def test_training_goes_on_as_if_it_were_not_there():
    weights = []
    for calibrates in (False, True):
        keras.utils.set_random_seed(3)
        model = two_sensors()
        model.compile("adam", CROSSENTROPY, combiner=keras_mimo.MIMOCombiner())
        # Prediction takes numbers from the generator that PyTorch shuffles by.
        model.fit(*TRAIN, shuffle=False, verbose=0)
        if calibrates:
            calibrated(model)
        model.fit(*TRAIN, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert len(weights[0]) == len(weights[1])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)


# Files.


def test_saved_with_the_model(model, tmp_path):
    calibration = calibrated(model, bias=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.calibration.scales == calibration.scales
    np.testing.assert_array_equal(loaded.calibration.bias, calibration.bias)
    assert loaded.calibration.after == calibration.after
    np.testing.assert_array_equal(
        predict(loaded)["fused"], predict(model)["fused"]
    )
    assert raw_scales(loaded) == raw_scales(model)
    loaded.calibration.reset()
    model.calibration = None
    np.testing.assert_array_equal(
        predict(loaded)["fused"], predict(model)["fused"]
    )


def test_a_file_without_calibration_has_none(model, tmp_path):
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").calibration is None


def test_weights_know_nothing_of_it(eager, tmp_path):
    contents = []
    for calibrates in (False, True):
        if calibrates:
            calibrated(eager)
        assert len(eager.weights) == 8
        path = tmp_path / f"{calibrates}.weights.h5"
        eager.save_weights(path)
        names = []
        with h5py.File(path) as file:
            file.visit(names.append)
        contents.append(names)
    assert contents[0] == contents[1]
    calibration = eager.calibration
    eager.load_weights(tmp_path / "False.weights.h5")
    assert eager.calibration is calibration


def test_a_clone_is_not_calibrated(eager):
    calibrated(eager)
    clone = keras.models.clone_model(eager)
    assert type(clone) is keras_mimo.MultimodalModel
    assert clone.calibration is None


# What is served.


def test_inference_model_is_calibrated_by_plain_layers(model, tmp_path):
    calibrated(model, bias=True)
    expected = predict(model)["fused"]
    plain = keras_mimo.inference_model(model)
    np.testing.assert_allclose(predict(plain), expected, atol=1e-6)
    assert all(type(x).__module__.startswith("keras.") for x in plain.layers)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(predict(loaded), predict(plain))
    one = keras_mimo.inference_model(model, output="clear")
    np.testing.assert_allclose(predict(one), predict(model)["clear"], atol=1e-6)


def test_what_has_no_weight_is_not_served():
    model = two_sensors(fusion="concat")
    model.calibration = keras_mimo.fusion.FusionCalibration(
        "classification",
        {"fused": 0.5, "clear": 0.0, "noise": 0.0},
        None,
        {},
        {},
        1,
    )
    plain = keras_mimo.inference_model(model)
    names = [layer.name for layer in plain.layers]
    assert "fused" in names
    assert "clear_head" not in names and "noise_head" not in names
    np.testing.assert_allclose(
        predict(plain), predict(model)["fused"], atol=1e-6
    )
    model.calibration = keras_mimo.fusion.FusionCalibration(
        "classification", {"noise": 0.0}, None, {}, {}, 1
    )
    assert not predict(model)["fused"].any()


SERVE = """
import sys

sys.modules["keras_mimo"] = None
import numpy as np
import tensorflow as tf

data = dict(np.load("data.npz"))
x = {name: tf.constant(data[name]) for name in ("clear", "noise")}
for folder in ("fused", "all"):
    served = tf.saved_model.load(folder)
    outputs = served.serve(x)
    assert len(outputs) == {"fused": 1, "all": 3}[folder]
    for name, value in outputs.items():
        expected = data["predicted_" + name]
        np.testing.assert_allclose(value.numpy(), expected, atol=1e-4)
"""


@pytest.mark.slow
def test_saved_models_are_calibrated(model, tmp_path):
    calibrated(model, bias=True)
    model.export(tmp_path / "fused", verbose=False)
    model.export(tmp_path / "all", verbose=False, outputs="all")
    predicted = {f"predicted_{k}": v for k, v in predict(model).items()}
    np.savez(tmp_path / "data.npz", **HELD_OUT[0], **predicted)
    done = subprocess.run(
        [sys.executable, "-c", SERVE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_inside_of_another_model(model):
    calibrated(model)
    inputs = {
        name: keras.Input(value.shape[1:], name=name)
        for name, value in HELD_OUT[0].items()
    }
    outer = keras.Model(inputs, layers.Softmax()(model(inputs)["fused"]))
    logits = predict(model)["fused"]
    expected = ops.convert_to_numpy(ops.softmax(logits))
    np.testing.assert_allclose(predict(outer), expected, atol=1e-5)


def test_logits_are_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = two_sensors()
        model.compile("adam", CROSSENTROPY)
        calibrated(model, bias=True)
        assert predict(model)["fused"].dtype == "float32"
        plain = keras_mimo.inference_model(model)
        assert plain.output.dtype == "float32"
        np.testing.assert_allclose(
            predict(plain), predict(model)["fused"], atol=1e-6
        )
    finally:
        keras.config.set_dtype_policy(before)


# Data.


class Batches(keras.utils.PyDataset):
    def __init__(self, *data, size=150):
        super().__init__()
        self.data, self.size = data, size

    def __len__(self):
        return -(-len(self.data[1]) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        return keras.tree.map_structure(lambda x: x[part], self.data)


def test_datasets_equal_arrays(eager):
    import tensorflow as tf

    weights = np.random.default_rng(4).uniform(size=len(HELD_OUT[1]))
    expected = calibrated(eager, sample_weight=weights).scales
    data = (*HELD_OUT, weights)
    batches = Batches(*data)
    for dataset in (
        batches,
        tf.data.Dataset.from_tensor_slices(data).batch(150),
        (batches[index] for index in range(3)),
    ):
        scales = calibrate_fusion(eager, dataset, verbose=0).scales
        assert scales == pytest.approx(expected, abs=1e-5)


def test_weights_are_as_many_copies(eager):
    x, y = samples(200, seed=5)
    copies = np.arange(200) % 3
    repeated = {name: np.repeat(value, copies, 0) for name, value in x.items()}
    weighted = calibrated(eager, x, y, sample_weight=copies)
    several = calibrated(eager, repeated, np.repeat(y, copies))
    for name in ("log_loss", "accuracy", "calibration_error"):
        np.testing.assert_allclose(
            weighted.before[name], several.before[name], rtol=1e-5
        )
    # Fewer samples than copies: they say less against the pull.
    assert 0.3 < weighted.scales["clear"] < 0.6
    assert several.scales["noise"] < weighted.scales["noise"]


def test_samples_without_weight_are_none(eager):
    x, y = HELD_OUT
    used = np.arange(400) % 2
    weighted = calibrated(eager, sample_weight=7 * used)
    part = {name: value[used == 1] for name, value in x.items()}
    expected = calibrated(eager, part, y[used == 1])
    assert weighted.num_samples == 200
    assert weighted.scales == pytest.approx(expected.scales, rel=1e-4)


def test_labels_in_any_form(eager):
    y = HELD_OUT[1]
    expected = calibrated(eager).scales
    for labels in (y[:, None], np.eye(CLASSES)[y], {"fused": y}, list(y)):
        assert calibrated(eager, y=labels).scales == expected


def test_samples_without_a_label_are_left_out():
    model = two_sensors()
    objectives = keras_mimo.Modalities(missing_label=-1)
    model.compile("adam", CROSSENTROPY, combiner="sum", objectives=objectives)
    y = HELD_OUT[1].copy()
    y[:100] = -1
    x = {name: value[100:] for name, value in HELD_OUT[0].items()}
    expected = calibrated(model, x, y[100:])
    found = calibrated(model, y=y)
    assert found.num_samples == 300
    assert found.scales == pytest.approx(expected.scales, rel=1e-5)


@pytest.mark.parametrize(
    "loss, task",
    [
        (CROSSENTROPY, "classification"),
        ("ce", "classification"),
        ({"fused": "mse", "clear": "mae", "noise": "mae"}, "regression"),
        (keras.losses.Huber(), "regression"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "multilabel"),
        (keras_mimo.losses.BalancedSoftmax([1, 2, 3]), "classification"),
    ],
)
def test_the_loss_tells_the_task(loss, task):
    model = two_sensors()
    model.compile("adam", loss)
    y = np.eye(CLASSES)[HELD_OUT[1]]
    assert calibrated(model, y=y).task == task


def test_regression():
    rng = np.random.default_rng(6)
    y = rng.normal(size=(300, 2)) + 5
    x = {
        "clear": np.hstack([y, rng.normal(size=(300, 4))]).astype("float32"),
        "noise": rng.normal(size=(300, 5)).astype("float32"),
    }
    model = two_sensors(width=2)
    model.compile(keras.optimizers.Adam(3e-2), "mse", combiner="sum")
    part = {name: value[:50] for name, value in x.items()}
    fit(model, part, y[:50], steps=100)
    rest = {name: value[50:] for name, value in x.items()}
    calibration = calibrated(model, rest, y[50:], bias=True)
    before, after = calibration.before, calibration.after
    assert set(after) == {"mean_squared_error"}
    assert after["mean_squared_error"] < 0.8 * before["mean_squared_error"]
    error = np.mean((predict(model, rest)["fused"] - y[50:]) ** 2)
    np.testing.assert_allclose(after["mean_squared_error"], error, rtol=1e-4)
    assert "mean squared error" in str(calibration)


def test_samples_that_lack_a_modality():
    # No logits are zeros but those of what is missing.
    encoders = {"clear": encoder(6, "tanh"), "noise": encoder(5, "tanh")}
    model = keras_mimo.late_fusion(encoders, CLASSES, missing=True)
    model.compile("adam", CROSSENTROPY, weighted_metrics=["accuracy"])
    x = {name: value.copy() for name, value in HELD_OUT[0].items()}
    x["clear"][:100] = np.nan
    raw = predict(model, x)
    calibration = calibrated(model, x)
    expected = sum(
        scale * raw[name] for name, scale in calibration.scales.items()
    )
    np.testing.assert_allclose(predict(model, x)["fused"], expected, atol=1e-5)
    # The samples that lack the one that is left count all the same.
    model.calibration = keras_mimo.fusion.FusionCalibration(
        "classification", {"clear": 0.5}, None, {}, {}, 1
    )
    logs = model.evaluate(
        x, HELD_OUT[1], batch_size=400, verbose=0, return_dict=True
    )
    hits = raw["clear"].argmax(1) == HELD_OUT[1]
    np.testing.assert_allclose(logs["fused_accuracy"], hits.mean(), rtol=1e-5)
    # In a dataset there may be samples without any.
    x["noise"][:50] = np.nan
    found = calibrate_fusion(model, Batches(x, HELD_OUT[1]), verbose=0)
    assert found.num_samples == 350


def test_outputs_of_one_trunk_are_summed():
    encoders = {"clear": encoder(6), "noise": encoder(5)}
    model = keras_mimo.intermediate_fusion(encoders, CLASSES)
    model.compile("adam", CROSSENTROPY)
    calibration = calibrated(model)
    assert set(calibration.scales) == {"fused", "clear", "noise"}
    plain = keras_mimo.inference_model(model)
    assert all(type(x).__module__.startswith("keras.") for x in plain.layers)
    np.testing.assert_allclose(
        predict(plain), predict(model)["fused"], atol=1e-5
    )


# Warnings, and what is printed.


def test_training_data_are_noticed(eager):
    with pytest.warns(UserWarning, match="not trained on"):
        calibrated(eager, *TRAIN)
    order = np.random.default_rng(0).permutation(60)[:40]
    part = {name: value[order] for name, value in reversed(TRAIN[0].items())}
    with pytest.warns(UserWarning, match="not trained on"):
        calibrated(eager, part, TRAIN[1][order])
    with pytest.warns(UserWarning, match="not trained on"):
        calibrate_fusion(eager, Batches(*TRAIN, size=25), verbose=0)


def test_a_dataset_is_known_again():
    model = two_sensors()
    model.compile("adam", CROSSENTROPY)
    dataset = Batches(*TRAIN)
    model.fit(dataset, verbose=0)
    with pytest.warns(UserWarning, match="not trained on"):
        calibrate_fusion(model, dataset, verbose=0)


def test_held_out_data_are_no_training_data(eager):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        calibrated(eager)
        other = two_sensors()
        other.compile("adam", CROSSENTROPY)
        other.fit(*HELD_OUT, validation_split=0.5, verbose=0)
        last = {name: value[200:] for name, value in HELD_OUT[0].items()}
        calibrated(other, last, HELD_OUT[1][200:])


@pytest.mark.parametrize("number, bias", [(19, False), (49, True)])
def test_few_samples_are_noticed(eager, number, bias):
    x = {name: value[:number] for name, value in HELD_OUT[0].items()}
    with pytest.warns(UserWarning, match=f"{number} samples to fit"):
        calibrated(eager, x, HELD_OUT[1][:number], bias=bias)


def test_it_prints_a_table(eager, capsys):
    calibration = calibrate_fusion(eager, *HELD_OUT, bias=True)
    table = capsys.readouterr().out
    assert str(calibration) in table
    for row in ("400 samples", "log loss", "accuracy", "calibration error"):
        assert row in table
    assert "scale of noise" in table and "bias" in table
    calibrated(eager)
    assert not capsys.readouterr().out


def test_separable_data_give_finite_scales(eager):
    # Without a pull, the best scale of what is never wrong is infinite.
    right = predict(eager)["clear"].argmax(1) == HELD_OUT[1]
    x = {name: value[right] for name, value in HELD_OUT[0].items()}
    calibration = calibrated(eager, x, HELD_OUT[1][right], bias=True)
    assert max(calibration.scales.values()) < 20
    assert np.abs(calibration.bias).max() < 5


# Errors.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"y": None}, "`y` must be given"),
        ({"y": HELD_OUT[1] - 1}, "class ids from 0 to 2"),
        ({"y": HELD_OUT[1] + 0.5}, "class ids"),
        ({"y": np.ones((400, 2))}, "outputs of width 3"),
        ({"y": np.ones((400, 3))}, "sum 1"),
        ({"y": HELD_OUT[1][:9]}, "as many samples"),
        ({"y": {"clear": HELD_OUT[1]}}, "a dict with"),
        ({"task": "ranking"}, "`task` must be one of"),
        ({"task": "multilabel"}, "outputs of width 3"),
        ({"task": "regression", "y": np.full((400, 3), np.nan)}, "finite"),
        ({"sample_weight": np.full(400, -1.0)}, "no number below 0"),
        ({"sample_weight": np.zeros(400)}, "more than 0"),
        ({"sample_weight": np.ones((400, 2))}, "one number for each"),
        ({"x": Batches(*HELD_OUT)}, "whose batches hold them"),
        ({"x": iter([]), "y": None}, "at least one sample"),
        ({"x": iter([HELD_OUT[0]]), "y": None}, "must be tuples"),
    ],
)
def test_errors_name_the_argument(eager, arguments, message):
    with pytest.raises(ValueError, match=message):
        calibrated(eager, **arguments)


def test_other_errors(eager):
    with pytest.raises(TypeError, match="MultimodalModel"):
        calibrated(keras_mimo.inference_model(eager))
    with pytest.raises(TypeError, match="arrays, or a dataset"):
        calibrated(eager, x=3, y=None)
    with pytest.raises(TypeError, match="FusionCalibration"):
        eager.calibration = {"clear": 1.0}
    with pytest.raises(ValueError, match="without a loss"):
        calibrated(two_sensors())
    with pytest.raises(ValueError, match="width of 1"):
        calibrated(two_sensors(width=1), task="classification")
    broken = two_sensors()
    broken.get_layer("noise_head").bias.assign([0, np.nan, 0])
    with pytest.raises(ValueError, match="'fused', which is not for 400"):
        calibrated(broken, task="classification")


def test_an_endless_dataset_is_refused(eager):
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices(HELD_OUT).batch(9).repeat()
    with pytest.raises(ValueError, match="come to an end"):
        calibrated(eager, endless, None)


def test_probabilities_are_no_logits():
    model = keras_mimo.late_fusion(
        {"clear": encoder(6), "noise": encoder(5)},
        CLASSES,
        fusion="concat",
        head=lambda name: layers.Dense(CLASSES, activation="softmax"),
    )
    with pytest.raises(ValueError, match="must be logits"):
        calibrated(model, task="classification")


def test_the_widths_of_outputs_must_be_the_same():
    x = keras.Input((6,), name="clear")
    outputs = {"fused": layers.Dense(3)(x), "clear": layers.Dense(2)(x)}
    model = keras_mimo.MultimodalModel({"clear": x}, outputs)
    with pytest.raises(ValueError, match="same shape"):
        calibrated(model, task="classification")


def test_without_scipy(eager, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[calibration\]"):
        calibrated(eager)
