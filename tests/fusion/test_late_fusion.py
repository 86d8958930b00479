import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from tests.quick import quick

CLASSES = 3
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder(width, **kwargs):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(4, activation="tanh")], **kwargs
    )


def two_sensors(**kwargs):
    encoders = {"accel": encoder(6), "gyro": encoder(5)}
    return keras_mimo.late_fusion(encoders, CLASSES, **kwargs)


def readings(samples=24):
    rng = np.random.default_rng(1)
    return {
        "accel": rng.normal(size=(samples, 6)).astype("float32"),
        "gyro": rng.normal(size=(samples, 5)).astype("float32"),
    }


def labels(samples=24):
    return np.random.default_rng(2).integers(0, CLASSES, samples)


def numpy_of(outputs):
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def assert_same(actual, expected, atol=1e-6):
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=atol)


def save_and_load(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


# Structure.


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_inputs_and_outputs_are_named(fusion):
    model = two_sensors(fusion=fusion, name="watch")
    assert type(model) is keras_mimo.MultimodalModel
    assert isinstance(model, keras_mimo.BalancedModel)
    assert isinstance(model.default_objectives(), keras_mimo.Modalities)
    assert model.name == "watch"
    assert {k: x.name for k, x in model.input.items()} == {
        "accel": "accel",
        "gyro": "gyro",
    }
    assert list(model.output) == ["fused", "accel", "gyro"]
    outputs = model(readings(7))
    for name in ("fused", "accel", "gyro"):
        assert tuple(outputs[name].shape) == (7, CLASSES)
    for name in ("accel_encoder", "accel_head", "gyro_encoder", "gyro_head"):
        assert model.get_layer(name).trainable_weights


def test_sum_fusion_adds_the_logits():
    model = two_sensors()
    outputs = numpy_of(model(readings()))
    total = outputs["accel"] + outputs["gyro"]
    np.testing.assert_allclose(outputs["fused"], total, atol=1e-6)
    # Nothing is fused by weights of its own.
    assert len(model.weights) == 8


@pytest.mark.parametrize("fusion", ["sum", "concat"])
def test_heads_are_linear_in_the_features(fusion):
    encoders = {"accel": encoder(6), "gyro": encoder(5)}
    model = keras_mimo.late_fusion(encoders, CLASSES, fusion)
    x = readings()
    outputs = numpy_of(model(x))
    features = {k: numpy_of(encoders[k](x[k])) for k in x}
    heads = {k: (f"{k}_head", features[k]) for k in x}
    if fusion == "concat":
        joined = np.concatenate([features["accel"], features["gyro"]], axis=1)
        heads["fused"] = ("fused", joined)
    for name, (layer, inputs) in heads.items():
        kernel, bias = model.get_layer(layer).get_weights()
        expected = inputs @ kernel + bias
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5)


def test_weights_of_the_encoders_are_kept_and_shared():
    accel = encoder(6)
    before = accel.get_weights()
    model = keras_mimo.late_fusion({"accel": accel, "gyro": encoder(5)}, 2)
    for old, new in zip(before, accel.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    shared = {id(variable) for variable in model.weights}
    assert {id(variable) for variable in accel.weights} <= shared


# Heads.


@pytest.mark.parametrize(
    "fusion, expected",
    [("sum", ["accel", "gyro"]), ("concat", ["accel", "gyro", "fused"])],
)
def test_head_is_asked_for_each_output(fusion, expected, tmp_path):
    asked = []

    def head(name):
        asked.append(name)
        # The name that one would choose is the one that the input has.
        hidden = layers.Dense(8, activation="relu")
        return keras.Sequential([hidden, layers.Dense(CLASSES)], name=name)

    model = two_sensors(fusion=fusion, head=head)
    assert asked == expected
    assert len(model.weights) == 4 + 4 * len(expected)
    x = readings()
    outputs = numpy_of(model(x))
    if fusion == "sum":
        total = outputs["accel"] + outputs["gyro"]
        np.testing.assert_allclose(outputs["fused"], total, atol=1e-6)
    assert_same(numpy_of(save_and_load(model, tmp_path)(x)), outputs)


def test_one_head_can_serve_all_modalities(tmp_path):
    shared = layers.Dense(CLASSES)
    model = two_sensors(head=lambda name: shared)
    assert len(model.weights) == 4 + 2
    loaded = save_and_load(model, tmp_path)
    assert len(loaded.weights) == 4 + 2
    assert_same(numpy_of(loaded(readings())), numpy_of(model(readings())))


def test_regression():
    encoders = {"accel": encoder(6), "gyro": encoder(5)}
    model = keras_mimo.late_fusion(encoders, 1, "concat")
    x = readings()
    y = x["accel"][:, :1] - x["gyro"][:, :1]
    model.compile(
        keras.optimizers.Adam(1e-2),
        "mse",
        metrics=["mae"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    history = model.fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "accel_mae" in history


def test_multi_label():
    x = readings()
    y = (x["accel"][:, :4] > 0).astype("float32")
    encoders = {"accel": encoder(6), "gyro": encoder(5)}
    model = keras_mimo.late_fusion(encoders, num_classes=4)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=["binary_accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    history = model.fit(x, y, epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "gyro_binary_accuracy" in history


# Encoders of every kind.


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class SubclassedEncoder(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)


def functional_encoder():
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(4)(x))


def nested_encoder():
    return keras.Sequential([functional_encoder(), layers.Dense(3)])


def built_layer():
    layer = layers.Dense(4)
    layer.build((None, 6))
    return layer


def called_model():
    model = SubclassedEncoder()
    model(np.zeros((7, 6), "float32"))
    return model


def sequential_built_on_data():
    model = keras.Sequential([layers.Dense(4)])
    model(np.zeros((7, 6), "float32"))
    return model


@pytest.mark.parametrize(
    "make",
    [
        functional_encoder,
        nested_encoder,
        built_layer,
        called_model,
        sequential_built_on_data,
    ],
)
def test_any_model_or_built_layer_is_an_encoder(make, tmp_path):
    accel = make()
    encoders = {"accel": accel, "gyro": encoder(5)}
    model = keras_mimo.late_fusion(encoders, CLASSES)
    assert tuple(model.input["accel"].shape) == (None, 6)
    x = readings()
    kernel, bias = model.get_layer("accel_head").get_weights()
    features = numpy_of(accel(x["accel"]))
    outputs = numpy_of(model(x))
    expected = features @ kernel + bias
    np.testing.assert_allclose(outputs["accel"], expected, atol=1e-5)
    assert_same(numpy_of(save_and_load(model, tmp_path)(x)), outputs)


# Keras warns where a dict of inputs and their names differ.
@pytest.mark.filterwarnings("error::UserWarning")
def test_an_encoder_can_have_several_inputs(tmp_path):
    tokens = {
        "ids": keras.Input((4,), dtype="int32", name="ids"),
        "mask": keras.Input((4,), name="mask"),
    }
    embedded = layers.Flatten()(layers.Embedding(9, 1)(tokens["ids"]))
    masked = layers.Multiply()([embedded, tokens["mask"]])
    text = keras.Model(tokens, layers.Dense(4)(masked))
    pair = [keras.Input((2,)), keras.Input((3,))]
    stereo = keras.Model(pair, layers.Concatenate()(pair))
    model = keras_mimo.late_fusion(
        {"text": text, "stereo": stereo}, CLASSES, "concat"
    )
    names = keras.tree.map_structure(lambda x: x.name, model.input)
    assert names == {
        "text": {"ids": "text_ids", "mask": "text_mask"},
        "stereo": ["stereo_0", "stereo_1"],
    }
    assert model.input["text"]["ids"].dtype == "int32"

    rng = np.random.default_rng(3)
    x = {
        "text": {
            "ids": rng.integers(0, 9, (24, 4)),
            "mask": np.ones((24, 4), "float32"),
        },
        "stereo": [
            rng.normal(size=(24, 2)).astype("float32"),
            rng.normal(size=(24, 3)).astype("float32"),
        ],
    }
    model.compile("sgd", CROSSENTROPY, combiner=keras_mimo.MIMOCombiner())
    model.fit(x, labels(), verbose=0)
    outputs = model.predict(x, verbose=0)
    # The mask reaches the text and nothing else.
    x["text"]["mask"] = 0 * x["text"]["mask"]
    masked = model.predict(x, verbose=0)
    assert not np.allclose(masked["text"], outputs["text"])
    np.testing.assert_array_equal(masked["stereo"], outputs["stereo"])
    loaded = save_and_load(model, tmp_path)
    assert_same(loaded.predict(x, verbose=0), masked)


def test_names_of_encoders_do_not_clash(tmp_path):
    encoders = {
        "accel": encoder(6, name="accel"),
        "gyro": encoder(5, name="fused"),
        "other": encoder(5, name="accel"),
    }
    model = keras_mimo.late_fusion(encoders, CLASSES)
    x = readings()
    x["other"] = x["gyro"]
    outputs = numpy_of(model(x))
    assert not np.allclose(outputs["gyro"], outputs["other"])
    assert_same(numpy_of(save_and_load(model, tmp_path)(x)), outputs)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same(numpy_of(clone(x)), outputs)


@pytest.mark.parametrize("copy", ["model", "load", "clone"])
def test_one_encoder_can_serve_two_modalities(copy, tmp_path):
    shared = encoder(6)
    model = keras_mimo.late_fusion({"left": shared, "right": shared}, CLASSES)
    if copy == "load":
        model = save_and_load(model, tmp_path)
    elif copy == "clone":
        model = keras.models.clone_model(model)
    assert len(model.weights) == 2 + 4
    kernel, bias = model.get_layer("left_head").get_weights()
    model.get_layer("right_head").set_weights([kernel, bias])
    x = readings()["accel"]
    outputs = numpy_of(model({"left": x, "right": x}))
    np.testing.assert_array_equal(outputs["left"], outputs["right"])


# Precision, saving, cloning.


@pytest.fixture
def mixed_float16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("head", [None, lambda name: layers.Dense(CLASSES)])
def test_logits_are_float32_under_mixed_precision(fusion, head, mixed_float16):
    model = two_sensors(fusion=fusion, head=head)
    features = model.get_layer("accel_encoder").output
    assert features.dtype == "float16"
    for name, output in model(readings()).items():
        assert keras.backend.standardize_dtype(output.dtype) == "float32", name


@pytest.mark.slow
def test_saved_model_predicts_the_same_and_goes_on_training(tmp_path):
    model = two_sensors(fusion="concat")
    model.compile(
        "adam",
        CROSSENTROPY,
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    x, y = readings(), labels()
    model.fit(x, y, verbose=0)
    loaded = save_and_load(model, tmp_path)
    assert type(loaded) is keras_mimo.MultimodalModel
    assert list(loaded.output) == list(model.output)
    expected = model.predict(x, verbose=0)
    assert_same(loaded.predict(x, verbose=0), expected, atol=0)
    resumed = loaded.fit(x, y, shuffle=False, verbose=0).history
    continued = model.fit(x, y, shuffle=False, verbose=0).history
    assert resumed.keys() == continued.keys()
    np.testing.assert_allclose(resumed["loss"], continued["loss"], rtol=1e-6)


def test_clone_has_its_own_weights():
    model = two_sensors()
    clone = keras.models.clone_model(model)
    assert type(clone) is keras_mimo.MultimodalModel
    x = readings()
    before = numpy_of(model(x))
    clone.set_weights([weight + 1 for weight in model.get_weights()])
    assert_same(numpy_of(model(x)), before, atol=0)
    clone.set_weights(model.get_weights())
    assert_same(numpy_of(clone(x)), before)


# Training.


@pytest.mark.parametrize("fusion", quick(["concat"], ["sum", "concat"]))
def test_balanced_training_reports_every_modality(fusion):
    model = two_sensors(fusion=fusion)
    model.compile(
        keras.optimizers.Adam(1e-2),
        CROSSENTROPY,
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(penalty=0.5),
    )
    x, y = readings(), labels()
    history = model.fit(
        x, y, epochs=5, validation_data=(x, y), verbose=0
    ).history
    names = ("fused", "accel", "gyro")
    logs = {"loss", *(f"{n}_{m}" for n in names for m in ("loss", "accuracy"))}
    assert set(history) == (
        logs | {f"val_{key}" for key in logs} | {f"{n}_weight" for n in names}
    )
    for name in names:
        assert history[f"{name}_loss"][-1] < history[f"{name}_loss"][0]
    np.testing.assert_allclose(history["fused_weight"], 1, rtol=1e-6)
    shares = np.add(history["accel_weight"], history["gyro_weight"])
    np.testing.assert_allclose(shares, 0.5, rtol=1e-5)


def test_metrics_belong_to_their_outputs():
    model = two_sensors()
    model.compile(
        "sgd",
        CROSSENTROPY,
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    x, y = readings(), labels()
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    for name, logits in model.predict(x, verbose=0).items():
        accuracy = np.mean(np.argmax(logits, axis=-1) == y)
        np.testing.assert_allclose(logs[f"{name}_accuracy"], accuracy)
        loss = float(CROSSENTROPY(y, logits))
        np.testing.assert_allclose(logs[f"{name}_loss"], loss, rtol=1e-5)


@pytest.mark.parametrize("combiner", [None, "mimo"])
def test_without_a_combiner_only_the_fused_loss_descends(combiner):
    model = two_sensors(fusion="concat")
    if combiner == "mimo":
        combiner = keras_mimo.MIMOCombiner()
    model.compile("sgd", CROSSENTROPY, metrics=["accuracy"], combiner=combiner)
    heads = ["accel_head", "gyro_head"]
    before = [model.get_layer(name).get_weights()[0] for name in heads]
    fused = model.get_layer("fused").get_weights()[0]
    history = model.fit(readings(), labels(), epochs=2, verbose=0).history
    after = [model.get_layer(name).get_weights()[0] for name in heads]
    same = [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same == [combiner is None] * 2
    assert not np.array_equal(fused, model.get_layer("fused").get_weights()[0])
    assert {"fused_accuracy", "accel_accuracy", "accel_loss"} <= set(history)
    joint = np.allclose(history["loss"], history["fused_loss"], rtol=1e-6)
    assert joint == (combiner is None)


# Bad input.


@pytest.mark.parametrize(
    "encoders, error, message",
    [
        (None, TypeError, r"`encoders` must be a dict.*encoders=None"),
        (
            lambda: [encoder(6), encoder(5)],
            TypeError,
            r"`encoders` must be a dict.*class 'list'",
        ),
        ({}, ValueError, r"at least two modalities.*encoders=\{\}"),
        (lambda: {"a": encoder(6)}, ValueError, "at least two modalities"),
        (
            lambda: {"a": encoder(6), "fused": encoder(5)},
            ValueError,
            'No modality can be called "fused"',
        ),
        (
            lambda: {"a": encoder(6), 1: encoder(5)},
            ValueError,
            r"The keys of `encoders` must be strings.*Received: 1",
        ),
        (
            lambda: {"a": encoder(6), "wrist watch": encoder(5)},
            ValueError,
            r"ASCII letters.*'wrist watch'",
        ),
        (
            lambda: {"a": encoder(6), "b": "resnet"},
            TypeError,
            r"must be Keras models or layers.*encoders\['b'\]=resnet",
        ),
        (
            lambda: {"a": encoder(6), "b": layers.Dense(4)},
            ValueError,
            r"must know the shape of its input.*encoders\['b'\]=<Dense",
        ),
        (
            lambda: {"a": encoder(6), "b": layers.Flatten()},
            ValueError,
            r"keras\.Sequential\(\[keras\.Input\(shape\), encoder\]\)",
        ),
        (
            lambda: {"a": encoder(6), "b": keras.Sequential([layers.Dense(4)])},
            ValueError,
            r"must know the shape of its input.*<Sequential",
        ),
        (
            lambda: {
                "a": encoder(6),
                "b": keras.Sequential(
                    [keras.Input((8, 2)), layers.Conv1D(4, 3)]
                ),
            },
            ValueError,
            r"GlobalAveragePooling.*encoders\['b'\].*\(None, 6, 4\)",
        ),
        (
            lambda: {"a": encoder(6), "b": two_sensors()},
            ValueError,
            r"features of shape `\(batch, features\)`.*'fused': \(None, 3\)",
        ),
        (
            lambda: {"a": encoder(6), "a_head": encoder(5)},
            ValueError,
            '"a_head" is used 2 times',
        ),
    ],
)
def test_bad_encoders(encoders, error, message):
    if callable(encoders):
        encoders = encoders()
    with pytest.raises(error, match=message):
        keras_mimo.late_fusion(encoders, CLASSES)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "3", None, True])
def test_bad_num_classes(num_classes):
    encoders = {"a": encoder(6), "b": encoder(5)}
    with pytest.raises(
        ValueError,
        match=rf"`num_classes` must be a positive integer.*={num_classes!r}",
    ):
        keras_mimo.late_fusion(encoders, num_classes)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"fusion": "mean"}, ValueError, r'"sum", "concat".*\'mean\''),
        (
            {"head": layers.Dense(CLASSES)},
            TypeError,
            "`head` must be a function of the name of an output",
        ),
        (
            {"head": lambda name: "dense"},
            TypeError,
            r"`head` must be a function.*returned 'dense'",
        ),
        (
            {"head": lambda name: layers.Dense(7)},
            ValueError,
            r"shape \(None, 3\).*\(None, 7\) for the output 'accel'",
        ),
    ],
)
def test_bad_fusion_and_head(kwargs, error, message):
    with pytest.raises(error, match=message):
        two_sensors(**kwargs)


def test_numpy_integers_are_integers():
    encoders = {"a": encoder(6), "b": encoder(5)}
    model = keras_mimo.late_fusion(encoders, np.max(labels()) + 1)
    assert tuple(model.output["fused"].shape) == (None, CLASSES)


@pytest.mark.parametrize(
    "combiner", quick(["mgda"], ["sum", "uncertainty", "famo", "mgda"])
)
def test_layers_of_two_encoders_may_share_a_name(combiner):
    """On PyTorch Keras' own step forgets one gradient for each path only."""

    def train(names):
        keras.utils.set_random_seed(0)
        inputs = {"accel": keras.Input((6,)), "gyro": keras.Input((5,))}
        encoders = {
            key: keras.Model(x, layers.Dense(4, name=name)(x))
            for (key, x), name in zip(inputs.items(), names, strict=True)
        }
        model = keras_mimo.late_fusion(encoders, CLASSES)
        model.compile(
            keras.optimizers.SGD(0.1), CROSSENTROPY, combiner=combiner
        )
        return model.fit(
            readings(), labels(), epochs=3, shuffle=False, verbose=0
        ).history["loss"]

    expected = train(["first", "second"])
    np.testing.assert_allclose(train(["same", "same"]), expected, rtol=1e-6)
