import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.layers import AbsentInput

CLASSES = 3
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WIDTHS = {"a": 3, "b": 4, "c": 2}


def early_fusion(names=("a", "b", "c"), structure=dict):
    inputs = {k: keras.Input((WIDTHS[k],), name=k) for k in names}
    x = layers.Concatenate()(list(inputs.values()))
    x = layers.Dense(6, activation="tanh")(x)
    outputs = layers.Dense(CLASSES)(x)
    if structure is list:
        inputs = list(inputs.values())
    return keras.Model(inputs, outputs, name="network")


def readings(names=("a", "b", "c"), samples=24):
    rng = np.random.default_rng(1)
    return {
        k: rng.normal(2, 1, (samples, WIDTHS[k])).astype("float32")
        for k in names
    }


def labels(samples=24):
    return np.random.default_rng(2).integers(0, CLASSES, samples)


def numpy_of(outputs):
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def assert_same(actual, expected, atol=1e-6):
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=atol)


@pytest.mark.parametrize("structure", [dict, list])
def test_every_other_modality_is_absent(structure):
    model = early_fusion(structure=structure)
    x = readings()

    def network(x):
        return numpy_of(model(x if structure is dict else list(x.values())))

    masked = keras_mimo.mask_modalities(model, name="masked")
    assert type(masked) is keras_mimo.MultimodalModel
    assert masked.name == "masked"
    assert masked.get_layer("network") is model
    assert len(masked.weights) == len(model.weights)
    expected = {"fused": network(x)}
    for kept in x:
        alone = {k: x[k] if k == kept else 0 * x[k] for k in x}
        expected[kept] = network(alone)
    given = x if structure is dict else list(x.values())
    assert list(masked.output) == ["fused", "a", "b", "c"]
    assert_same(numpy_of(masked(given)), expected)


def test_each_modality_is_lost():
    model = early_fusion()
    x = readings()
    masked = keras_mimo.mask_modalities(model, objectives="lost", absent=-1)
    expected = {"fused": numpy_of(model(x))}
    for lost in x:
        without = {**x, lost: np.full_like(x[lost], -1)}
        expected[f"without_{lost}"] = numpy_of(model(without))
    assert_same(numpy_of(masked(x)), expected)


def test_a_modality_of_several_inputs_and_inputs_of_none():
    model = early_fusion()
    x = readings()
    c = keras.Input((2,), name="d")
    joined = layers.Dense(CLASSES)(layers.Concatenate()([model.output, c]))
    model = keras.Model({**model.input, "d": c}, joined)
    masked = keras_mimo.mask_modalities(
        model,
        {"left": ["a", "b"], "right": "c"},
        absent={"a": 3, "c": 0.5},
    )
    x["d"] = x["c"]
    right = {**x, "a": np.full_like(x["a"], 3), "b": 0 * x["b"]}
    expected = {
        "fused": numpy_of(model(x)),
        "left": numpy_of(model({**x, "c": np.full_like(x["c"], 0.5)})),
        "right": numpy_of(model(right)),
    }
    assert_same(numpy_of(masked(x)), expected)


@pytest.mark.parametrize("absent", ["zeros", "mean"])
def test_channels_of_one_input_are_modalities(absent):
    network = keras.Sequential(
        [
            keras.Input((5, 6), name="x"),
            layers.Conv1D(4, 3, activation="tanh"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    x = np.random.default_rng(0).normal(2, 1, (7, 5, 6)).astype("float32")
    channels = {"a": slice(0, 2), "b": slice(2, 3), "c": slice(-2, None)}
    masked = keras_mimo.mask_modalities(
        network,
        {name: ("x", part) for name, part in channels.items()},
        absent=absent,
        data=x if absent == "mean" else None,
    )
    expected = {"fused": numpy_of(network(x))}
    for kept in channels:
        alone = x.copy()
        for name, part in channels.items():
            if name != kept:
                mean = x[..., part].mean(axis=0)
                alone[..., part] = mean if absent == "mean" else 0
        expected[kept] = numpy_of(network(alone))
    assert_same(numpy_of(masked(x)), expected, atol=1e-5)


class Halves(keras.utils.PyDataset):
    num_batches = 2

    def __getitem__(self, index):
        x = readings()
        half = slice(0, 7) if index == 0 else slice(7, None)
        return {k: v[half] for k, v in x.items()}, labels()[half]


@pytest.mark.parametrize("kind", ["arrays", "list", "dataset", "generator"])
def test_the_mean_of_the_data(kind):
    x = readings()
    data = {
        "arrays": x,
        "list": list(x.values()),
        "dataset": Halves(),
        "generator": (Halves()[index] for index in range(2)),
    }[kind]
    masked = keras_mimo.mask_modalities(
        early_fusion(), absent={"a": "mean", "b": "mean"}, data=data
    )
    for name in ("a", "b"):
        layer = masked.get_layer(f"{name}_absent")
        result = numpy_of(layer(0 * x[name]))
        expected = np.broadcast_to(x[name].mean(axis=0), result.shape)
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert not layer.trainable_variables
    assert np.all(numpy_of(masked.get_layer("c_absent")(x["c"])) == 0)


def test_the_mean_is_not_trained_where_all_layers_are():
    x = readings(("a", "b"))
    masked = keras_mimo.mask_modalities(
        early_fusion(("a", "b")), absent="mean", data=x
    )
    masked.trainable = True
    masked.compile("sgd", CROSSENTROPY, combiner="sum")
    masked.train_on_batch(x, labels())
    values = masked.get_layer("a_absent").values.embeddings
    mean = x["a"].mean(axis=0, dtype="float64")
    np.testing.assert_allclose(numpy_of(values)[0], mean, rtol=1e-7)


@pytest.mark.slow
def test_training_saving_and_serving(tmp_path):
    """What is learnt, and that a saved model goes on with it."""
    model = early_fusion(("a", "b"))
    masked = keras_mimo.mask_modalities(model, absent="learnt")
    assert len(masked.trainable_variables) == 4 + 2
    masked.compile(
        keras.optimizers.Adam(1e-2),
        CROSSENTROPY,
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    x, y = readings(("a", "b")), labels()
    history = masked.fit(x, y, epochs=4, verbose=0).history
    for name in ("fused", "a", "b"):
        assert history[f"{name}_loss"][-1] < history[f"{name}_loss"][0]
        assert f"{name}_accuracy" in history
    for name in ("a", "b"):
        values = masked.get_layer(f"{name}_absent").values
        assert np.all(numpy_of(values.embeddings.value) != 0)
    expected = masked.predict(x, verbose=0)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), expected["fused"], atol=1e-6
    )
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras_mimo.MultimodalModel
    assert_same(loaded.predict(x, verbose=0), expected)
    loaded.fit(x, y, verbose=0)
    clone = keras.models.clone_model(masked)
    clone.set_weights(masked.get_weights())
    assert_same(numpy_of(clone(x)), expected)
    # One pass is served, with no layer of ours.
    served = keras_mimo.inference_model(masked)
    assert [layer.name for layer in served.layers] == ["a", "b", "network"]
    assert len(served.weights) == len(model.weights)
    np.testing.assert_allclose(
        numpy_of(served(x)), expected["fused"], atol=1e-6
    )
    # Nor has what serves one modality.
    served = keras_mimo.inference_model(masked, "a")
    own = [layer for layer in served.layers if isinstance(layer, AbsentInput)]
    assert own == []
    np.testing.assert_allclose(numpy_of(served(x)), expected["a"], atol=1e-6)


def test_the_learnt_values_learn_from_the_losses_of_others_alone():
    masked = keras_mimo.mask_modalities(
        early_fusion(("a", "b")), None, "learnt"
    )
    masked.compile("sgd", CROSSENTROPY)
    masked.train_on_batch(readings(("a", "b")), labels())
    for name in ("a", "b"):
        values = masked.get_layer(f"{name}_absent").values.embeddings
        assert np.all(numpy_of(values.value) == 0)


@pytest.mark.parametrize("combiner", ["sum", "mgda"])
def test_combiners_train_under_mixed_precision(combiner):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        masked = keras_mimo.mask_modalities(
            early_fusion(("a", "b")), absent="learnt"
        )
        # Its values are not rounded to half precision.
        assert masked.get_layer("a_absent").values.compute_dtype == "float32"
        masked.compile("sgd", CROSSENTROPY, combiner=combiner)
        x = readings(("a", "b"))
        before = [numpy_of(v.value) for v in masked.weights]
        history = masked.fit(x, labels(), epochs=2, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    # The only output in which one is absent is that of the other. The weight
    # that MGDA gives it may be 0.
    trained = {"a_absent": "b_weight", "b_absent": "a_weight"}
    for old, variable in zip(before, masked.weights, strict=True):
        new = numpy_of(variable.value)
        weight = trained.get(variable.path.split("/")[0], "loss")
        moved = not np.array_equal(old, new)
        assert moved == any(history[weight])
        assert np.all(np.isfinite(new))


def hybrid(sequence_end):
    """Two encoders and a trunk: of a text and of a picture."""
    text = keras.Input((5,), dtype="int32", name="text")
    words = layers.Embedding(9, 4, mask_zero=True, name="words")(text)
    words = sequence_end(words)
    image = keras.Input((6,), name="image")
    picture = layers.Dense(4, name="picture")(image)
    x = layers.Concatenate()([words, picture])
    return keras.Model([text, image], layers.Dense(CLASSES, name="trunk")(x))


def test_encoder_variables_of_a_hybrid_model():
    model = hybrid(layers.LSTM(4, name="recurrent"))
    masked = keras_mimo.mask_modalities(model)

    def ids(names):
        found = [model.get_layer(name).trainable_variables for name in names]
        return [id(v) for variables in found for v in variables]

    found = {
        name: [id(v) for v in variables]
        for name, variables in masked.encoder_variables.items()
    }
    assert found == {
        "text": ids(["words", "recurrent"]),
        "image": ids(["picture"]),
    }
    channels = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2)])
    masked = keras_mimo.mask_modalities(
        channels, {"a": ("x", slice(2)), "b": ("x", slice(2, 4))}
    )
    assert masked.encoder_variables == {}


def test_an_average_of_nothing_is_refused():
    model = hybrid(layers.GlobalAveragePooling1D())
    with pytest.raises(
        ValueError, match=r"`absent` must leave.*outputs \['image'\]"
    ):
        keras_mimo.mask_modalities(model)
    masked = keras_mimo.mask_modalities(model, absent={"text": 1})
    x = [np.zeros((2, 5), "int32") + 3, np.ones((2, 6), "float32")]
    assert np.all(np.isfinite(numpy_of(masked(x))["image"]))


# The layer.


@pytest.mark.parametrize("absent", [2, "learnt", "mean"])
@pytest.mark.parametrize("channels", [None, (1, 3)])
def test_an_absent_input_uses_no_value_of_it(absent, channels):
    layer = AbsentInput(absent, channels)
    x = np.full((3, 2, 4), np.nan, "float32")
    part = slice(*channels) if channels else slice(None)
    if channels:
        x[..., 0], x[..., 3] = 5, 6
    expected = np.copy(x)
    expected[..., part] = 2 if absent == 2 else 0
    np.testing.assert_array_equal(numpy_of(layer(x)), expected)


def test_the_layer_is_plain_keras_in_a_graph(tmp_path):
    layer = AbsentInput("learnt", (1, 3))
    inputs = keras.Input((2, 4))
    layer.build(inputs.shape)
    plain = keras.Model(inputs, layer.call(inputs))
    values = np.arange(4, dtype="float32")[None]
    layer.values.set_weights([values])
    assert not any(isinstance(x, AbsentInput) for x in plain.layers)
    plain.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    x = np.full((3, 2, 4), 7, "float32")
    expected = np.copy(x)
    expected[..., 1:3] = values.reshape(2, 2)
    for model in (plain, loaded, layer):
        np.testing.assert_array_equal(numpy_of(model(x)), expected)


def test_integers_stay_integers():
    ids = np.ones((2, 3), "int32")
    absent = AbsentInput(4)(ids)
    assert keras.backend.standardize_dtype(absent.dtype) == "int32"
    assert np.all(numpy_of(absent) == 4)


# Bad input.


def integers():
    ids = keras.Input((3,), dtype="int32", name="ids")
    a = keras.Input((3,), name="a")
    words = layers.Flatten()(layers.Embedding(4, 1)(ids))
    return keras.Model([ids, a], layers.Add()([words, a]))


def unknown_length():
    a = keras.Input((None, 3), name="a")
    b = keras.Input((3,), name="b")
    pooled = layers.GlobalMaxPooling1D()(a)
    return keras.Model([a, b], layers.Add()([pooled, b]))


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: keras.Sequential([layers.Dense(3)]), "starts with `keras.In"),
        (lambda: layers.Dense(3), "`model` must be a functional model"),
        (
            lambda: keras_mimo.mask_modalities(early_fusion()),
            "one output.*with 4 outputs",
        ),
    ],
)
def test_bad_models(model, message):
    with pytest.raises(ValueError, match=message):
        keras_mimo.mask_modalities(model())


@pytest.mark.parametrize(
    "modalities, error, message",
    [
        (["a", "b"], TypeError, "`modalities` must be a dict.*'list'"),
        ({"a": "a"}, ValueError, "at least two"),
        ({"a": "a", "fused": "b"}, ValueError, 'called "fused"'),
        ({"a": "a", "b-c": "b"}, ValueError, "ASCII letters.*'b-c'"),
        (
            {"a": "a", "b": "x"},
            ValueError,
            r"inputs of `model`, \['a', 'b', 'c'\].*\['b'\] with 'x'",
        ),
        ({"a": "a", "b": 3}, TypeError, r"modalities\['b'\] with 3"),
        ({"a": "a", "b": ("b", 3)}, TypeError, r"with \('b', 3\)"),
        (
            {"x": "a", "y": ["b", "a"]},
            ValueError,
            "'x' and 'y' share 'a'",
        ),
        (
            {"x": ("b", slice(0, 2)), "y": ("b", slice(1, 4))},
            ValueError,
            "'x' and 'y' share 'b'",
        ),
        (
            {"x": ("b", slice(0, 2)), "y": ("b", slice(2, 5))},
            ValueError,
            r"neighbours.*slice\(2, 5, None\)\).*\(None, 4\)",
        ),
        (
            {"x": ("b", slice(0, 4, 2)), "y": "a"},
            ValueError,
            r"neighbours on the last axis.*modalities\['x'\]",
        ),
    ],
)
def test_bad_modalities(modalities, error, message):
    with pytest.raises(error, match=message):
        keras_mimo.mask_modalities(early_fusion(), modalities)


@pytest.mark.parametrize(
    "model, kwargs, message",
    [
        (early_fusion, {"absent": "none"}, '"zeros", "mean", "learnt".*none'),
        (early_fusion, {"absent": float("nan")}, "finite number.*nan"),
        (early_fusion, {"absent": {"x": 0}}, r"inputs of `model`.*\{'x': 0\}"),
        (early_fusion, {"absent": "mean"}, "`data` must be given.*NoneType"),
        (early_fusion, {"data": {}}, "`data` must be given.*'dict'"),
        (
            early_fusion,
            {"absent": "mean", "data": 3},
            "inputs of training.*data=3",
        ),
        (early_fusion, {"absent": "mean", "data": iter([])}, "have samples"),
        (
            early_fusion,
            {"absent": "mean", "data": [np.ones((2, 3))]},
            r"one array for each.*\['a', 'b', 'c'\]. Received: 1 arrays",
        ),
        (early_fusion, {"objectives": "both"}, r"\('alone', 'lost'\).*'both'"),
        (integers, {"absent": "learnt"}, "floats.*'ids' of dtype int32"),
        (unknown_length, {"absent": "learnt"}, r"known shape.*\(None, None"),
    ],
)
def test_bad_absent_and_objectives(model, kwargs, message):
    with pytest.raises(ValueError, match=message):
        keras_mimo.mask_modalities(model(), **kwargs)


def test_bad_arguments_of_the_layer():
    with pytest.raises(ValueError, match="absent='zeros'"):
        AbsentInput("zeros")
    with pytest.raises(ValueError, match="absent=True"):
        AbsentInput(True)
    with pytest.raises(ValueError, match="`adapt\\(\\)` is for"):
        AbsentInput(1).adapt(np.ones((2, 3)))
