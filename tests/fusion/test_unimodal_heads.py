import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo

# Each compiles models of its own.
pytestmark = pytest.mark.slow

CLASSES = 3
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fused_model(activation=None, structure=dict):
    """Of an image and a text, with layers that a user would have."""
    image = keras.Input((6, 6, 2), name="image")
    text = keras.Input((5,), dtype="int32", name="text")
    maps = layers.Conv2D(4, 3, activation="tanh", name="maps")(image)
    image_features = layers.GlobalMaxPooling2D(name="image_features")(maps)
    words = layers.Embedding(9, 4, mask_zero=True, name="words")(text)
    text_features = layers.LSTM(4, name="text_features")(words)
    projected = layers.Dense(4, name="projected")(text_features)
    joined = layers.Concatenate(name="joined")([image_features, projected])
    hidden = layers.Dense(6, activation="tanh", name="hidden")(joined)
    label = layers.Dense(CLASSES, activation=activation, name="label")(hidden)
    inputs = [image, text]
    if structure is dict:
        inputs = {"image": image, "text": text}
    return keras.Model(inputs, label, name="posts")


def posts(samples=24, structure=dict):
    rng = np.random.default_rng(1)
    x = {
        "image": rng.normal(size=(samples, 6, 6, 2)).astype("float32"),
        "text": rng.integers(1, 9, (samples, 5)).astype("int32"),
    }
    x["text"][:, 3:] = 0
    return x if structure is dict else list(x.values())


def labels(samples=24):
    return np.random.default_rng(2).integers(0, CLASSES, samples)


FEATURES = {"image": "image_features", "text": "text_features"}


def numpy_of(outputs):
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


def assert_same(actual, expected, atol=1e-6):
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=atol)


@pytest.mark.parametrize("structure", [dict, list])
def test_the_layers_of_the_model_stay_and_heads_are_added(structure):
    model = fused_model(structure=structure)
    model.get_layer("words").trainable = False
    x = posts(structure=structure)
    before = numpy_of(model(x))
    balanced = keras_mimo.add_unimodal_heads(model, FEATURES)
    assert type(balanced) is keras_mimo.MultimodalModel
    assert balanced.name == "posts"
    assert list(balanced.output) == ["fused", "image", "text"]
    for layer in model.layers:
        assert balanced.get_layer(layer.name) is layer
    assert not balanced.get_layer("words").trainable
    outputs = numpy_of(balanced(x))
    np.testing.assert_allclose(outputs["fused"], before, atol=1e-6)
    for modality, layer in FEATURES.items():
        features = keras.Model(model.input, model.get_layer(layer).output)
        kernel, bias = balanced.get_layer(f"{modality}_head").get_weights()
        expected = numpy_of(features(x)) @ kernel + bias
        np.testing.assert_allclose(outputs[modality], expected, atol=1e-5)
    served = keras_mimo.inference_model(balanced)
    assert set(served.layers) == set(model.layers)
    np.testing.assert_allclose(numpy_of(served(x)), before, atol=1e-6)


def test_features_are_tensors_too_or_inputs():
    model = fused_model()
    image = layers.Flatten()(model.get_layer("maps").output)
    balanced = keras_mimo.add_unimodal_heads(
        model, {"image": image, "text": model.get_layer("projected").output}
    )
    assert balanced.get_layer("image_head").kernel.shape == (64, CLASSES)

    tabular = keras.Input((4,), name="tabular")
    sound = keras.Input((3,), name="sound")
    joined = layers.Concatenate()([tabular, sound])
    model = keras.Model([tabular, sound], layers.Dense(CLASSES)(joined))
    balanced = keras_mimo.add_unimodal_heads(
        model, {"tabular": "tabular", "sound": sound}
    )
    assert balanced.get_layer("tabular_head").kernel.shape == (4, CLASSES)


def test_maps_and_masked_sequences_are_averaged():
    model = fused_model()
    features = {"image": "maps", "text": "words"}
    balanced = keras_mimo.add_unimodal_heads(model, features)
    x = posts()
    outputs = numpy_of(balanced(x))
    averaged = {}
    for modality, layer in features.items():
        tensor = model.get_layer(layer).output
        values = numpy_of(keras.Model(model.input, tensor)(x))
        # Of the text, the first three steps are there.
        kept = values[:, :3] if modality == "text" else values
        averaged[modality] = kept.reshape(24, -1, 4).mean(axis=1)
    for modality, values in averaged.items():
        kernel, bias = balanced.get_layer(f"{modality}_head").get_weights()
        expected = values @ kernel + bias
        np.testing.assert_allclose(outputs[modality], expected, atol=1e-5)


def test_volumes_are_averaged():
    scan = keras.Input((3, 3, 3, 2), name="scan")
    sound = keras.Input((4,), name="sound")
    joined = layers.Concatenate()([layers.Flatten()(scan), sound])
    model = keras.Model([scan, sound], layers.Dense(2)(joined))
    balanced = keras_mimo.add_unimodal_heads(
        model, {"scan": scan, "sound": sound}
    )
    assert balanced.get_layer("scan_head").kernel.shape == (2, 2)


def softmax_layer(x):
    return layers.Softmax()(layers.Dense(CLASSES)(x))


def softmax_operation(x):
    return ops.softmax(layers.Dense(CLASSES)(x))


def activation_layer(x):
    return layers.Activation("softmax")(layers.Dense(CLASSES)(x))


def inside_a_model(x):
    return keras.Sequential([layers.Dense(CLASSES, activation="softmax")])(x)


@pytest.mark.parametrize(
    "end",
    [softmax_layer, softmax_operation, activation_layer, inside_a_model],
)
def test_heads_end_in_the_activation_of_the_model(end):
    hidden = fused_model().get_layer("hidden").output
    model = keras.Model(fused_model_inputs(hidden), end(hidden))
    balanced = keras_mimo.add_unimodal_heads(model, FEATURES)
    outputs = numpy_of(balanced(posts()))
    for name in ("fused", "image", "text"):
        np.testing.assert_allclose(outputs[name].sum(axis=1), 1, atol=1e-5)


def fused_model_inputs(tensor):
    found = {}
    waiting = [tensor]
    while waiting:
        operation, index, _ = waiting.pop()._keras_history
        node = operation._inbound_nodes[index]
        waiting += node.input_tensors
        if isinstance(operation, layers.InputLayer):
            found[operation.name] = operation.output
    return found


def test_other_activations():
    sigmoid = fused_model("sigmoid")
    balanced = keras_mimo.add_unimodal_heads(sigmoid, FEATURES)
    head = balanced.get_layer("image_head")
    assert head.activation is keras.activations.sigmoid
    balanced = keras_mimo.add_unimodal_heads(fused_model(), FEATURES)
    head = balanced.get_layer("image_head")
    assert head.activation is keras.activations.linear


@pytest.mark.parametrize("combiner", [None, "mimo"])
def test_training_saving_and_resuming(combiner, tmp_path):
    model = fused_model("softmax", structure=list)
    balanced = keras_mimo.add_unimodal_heads(model, FEATURES)
    balanced.compile(
        keras.optimizers.Adam(1e-2),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        combiner=combiner,
    )
    x, y = posts(structure=list), labels()
    before = model.get_weights()
    heads = [balanced.get_layer(f"{m}_head") for m in FEATURES]
    kernels = [head.get_weights()[0] for head in heads]
    history = balanced.fit(x, y, epochs=4, verbose=0).history
    names = ["fused"] if combiner is None else ["fused", "image", "text"]
    for name in names:
        assert history[f"{name}_loss"][-1] < history[f"{name}_loss"][0]
    for old, new in zip(before, model.get_weights(), strict=True):
        assert not np.array_equal(old, new)
    for head, old in zip(heads, kernels, strict=True):
        moved = not np.array_equal(head.get_weights()[0], old)
        assert moved == (combiner is not None)
    # The user's own model has learned.
    expected = balanced.predict(x, verbose=0)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), expected["fused"], atol=1e-6
    )
    balanced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras_mimo.MultimodalModel
    assert_same(loaded.predict(x, verbose=0), expected)
    assert list(loaded.encoder_variables) == ["image", "text"]
    loaded.fit(x, y, verbose=0)


def test_encoder_variables_are_those_before_the_features_alone():
    model = fused_model()
    balanced = keras_mimo.add_unimodal_heads(model, FEATURES)
    found = {
        name: {v.path for v in variables}
        for name, variables in balanced.encoder_variables.items()
    }

    def paths(*names):
        return {v.path for n in names for v in model.get_layer(n).weights}

    # The projection comes after the features of the text.
    assert found["image"] == paths("maps")
    assert found["text"] == {
        v.path
        for name in ("words", "text_features")
        for v in model.get_layer(name).trainable_variables
    }
    model.get_layer("words").trainable = False
    assert len(balanced.encoder_variables["text"]) == 3
    # They are blocks of compile().
    balanced.compile(
        "sgd", CROSSENTROPY, combiner="mgda", blocks=balanced.encoder_variables
    )
    balanced.train_on_batch(posts(), labels())


def test_encoder_variables_of_models_within_the_model():
    def encoder(width, name):
        return keras.Sequential(
            [keras.Input((width,)), layers.Dense(4)], name=name
        )

    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="r")
    shared = layers.Dense(3, name="shared")
    a, b = encoder(3, "a"), encoder(3, "b")
    features = [a(shared(left)), b(shared(right))]
    joined = layers.Concatenate()(features)
    model = keras.Model([left, right], layers.Dense(2)(joined))
    balanced = keras_mimo.add_unimodal_heads(model, {"left": "a", "right": "b"})
    found = balanced.encoder_variables
    assert set(found) == {"left", "right"}
    for modality, layer in {"left": a, "right": b}.items():
        assert [id(v) for v in found[modality]] == [
            id(v) for v in layer.trainable_variables
        ]


@pytest.mark.parametrize("fuse", ["late_fusion", "intermediate_fusion"])
def test_encoder_variables_by_the_names_of_encoders(fuse):
    def encoder():
        return keras.Sequential([keras.Input((3,)), layers.Dense(4)])

    shared, third = encoder(), encoder()
    encoders = {"left": shared, "right": shared, "third": third}
    model = getattr(keras_mimo, fuse)(encoders, CLASSES)
    third.trainable = False
    found = model.encoder_variables
    assert list(found) == ["left", "third"]
    expected = [id(v) for v in shared.trainable_variables]
    assert [id(v) for v in found["left"]] == expected
    assert found["third"] == []


def test_heads_of_ones_own(tmp_path):
    model = fused_model()
    asked = []

    def head(name):
        asked.append(name)
        hidden = layers.Dense(5, activation="relu")
        return keras.Sequential([hidden, layers.Dense(CLASSES)], name=name)

    balanced = keras_mimo.add_unimodal_heads(
        model, {"image": "maps", "text": "text_features"}, head, name="mine"
    )
    assert asked == ["image", "text"]
    assert balanced.name == "mine"
    assert len(balanced.get_layer("image_head").weights) == 4
    x = posts()
    balanced.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(numpy_of(loaded(x)), numpy_of(balanced(x)))


def test_names_that_the_model_has_are_left_to_it():
    image = keras.Input((3,), name="image")
    text = keras.Input((3,), name="text")
    features = layers.Dense(4, name="image_head")(image)
    joined = layers.Concatenate()([features, text])
    model = keras.Model([image, text], layers.Dense(2)(joined))
    balanced = keras_mimo.add_unimodal_heads(
        model, {"image": "image_head", "text": "text"}
    )
    assert balanced.get_layer("image_head").units == 4
    assert balanced.get_layer("image_head_").units == 2


def test_heads_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fused_model()
        features = {"image": "maps", "text": "text_features"}
        heads = [None, lambda name: layers.Dense(CLASSES)]
        balanced = [
            keras_mimo.add_unimodal_heads(model, features, head)
            for head in heads
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("maps").output.dtype == "float16"
    for given in balanced:
        for name in features:
            assert given.output[name].dtype == "float32"
    balanced[0].compile("sgd", CROSSENTROPY, combiner="sum")
    balanced[0].train_on_batch(posts(), labels())


# Bad input.


def two_inputs(layer):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    return keras.Model([a, b], layers.Dense(2)(layers.Add()([a, layer(b)])))


def two_outputs():
    model = fused_model()
    return keras.Model(model.input, [model.output, model.output])


def maps_out():
    model = fused_model()
    return keras.Model(model.input, model.get_layer("maps").output)


@pytest.mark.parametrize(
    "model, message",
    [
        (
            lambda: keras.Sequential([layers.Dense(3)]),
            "`model` must be a functional model.*<Sequential",
        ),
        (lambda: layers.Dense(3), "`model` must be a functional.*<Dense"),
        (two_outputs, "one output.*inference_model.*with 2 outputs"),
        (maps_out, r"shape `\(batch, width\)`.*\(None, 4, 4, 4\)"),
    ],
)
def test_bad_models(model, message):
    with pytest.raises(ValueError, match=message):
        keras_mimo.add_unimodal_heads(model(), FEATURES)


@pytest.mark.parametrize(
    "features, error, message",
    [
        (["maps", "words"], TypeError, "`features` must be a dict.*'list'"),
        ({"image": "maps"}, ValueError, r"at least two.*=\{'image': 'maps'\}"),
        (
            {"image": "maps", "fused": "words"},
            ValueError,
            'No modality can be called "fused"',
        ),
        (
            {"image": "maps", "the text": "words"},
            ValueError,
            "ASCII letters.*'the text'",
        ),
        (
            {"image": "maps", "text": layers.Dense(3)},
            TypeError,
            r"names of layers or symbolic tensors.*features\['text'\]=<Dense",
        ),
        (
            {"image": "mups", "text": "words"},
            ValueError,
            r"features\['image'\]='mups'. Its layers are \[.*'image_features'",
        ),
        (
            {"image": "maps", "text": "hidden"},
            ValueError,
            r"no common input.*features\['image'\], which depends on the "
            r"inputs \['image'\], and features\['text'\], on "
            r"\['image', 'text'\]",
        ),
        (
            {"image": "maps", "text": keras.KerasTensor((None, 3))},
            ValueError,
            r"inputs of `model` \(\['image', 'text'\]\).*features\['text'\]",
        ),
    ],
)
def test_bad_features(features, error, message):
    with pytest.raises(error, match=message):
        keras_mimo.add_unimodal_heads(fused_model(), features)


def test_features_of_another_model():
    model, other = fused_model(), fused_model()
    features = {"image": other.get_layer("maps").output, "text": "words"}
    with pytest.raises(ValueError, match="computed from inputs of `model`"):
        keras_mimo.add_unimodal_heads(model, features)


def test_layers_out_of_reach():
    inner = keras.Sequential([layers.Dense(3, name="inner")], name="outer")
    inner.build((None, 3))
    model = two_inputs(inner)
    with pytest.raises(
        ValueError, match="'inner', which is inside the layer 'outer'"
    ):
        keras_mimo.add_unimodal_heads(model, {"a": "a", "b": "inner"})


def test_layers_with_several_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    twice = layers.Dense(3, name="twice")
    joined = layers.Add()([twice(a), twice(b)])
    model = keras.Model([a, b], layers.Dense(2)(joined))
    with pytest.raises(
        ValueError, match=r"pass the tensor.*'twice', a layer that has 2"
    ):
        keras_mimo.add_unimodal_heads(model, {"a": "twice", "b": "b"})


def test_features_of_unknown_width():
    a, b = keras.Input((None,), name="a"), keras.Input((3,), name="b")
    total = ops.sum(a, axis=-1, keepdims=True)
    model = keras.Model([a, b], layers.Dense(2)(ops.add(total, b)))
    with pytest.raises(
        ValueError, match=r"features\['a'\] of shape \(None, None\)"
    ):
        keras_mimo.add_unimodal_heads(model, {"a": "a", "b": "b"})


@pytest.mark.parametrize(
    "head, error, message",
    [
        (layers.Dense(3), TypeError, "`head` must be a function"),
        (lambda name: "dense", TypeError, "returned 'dense'"),
        (
            lambda name: layers.Dense(7),
            ValueError,
            r"\(None, 3\).*\(None, 7\) for the output 'image'",
        ),
    ],
)
def test_bad_heads(head, error, message):
    with pytest.raises(error, match=message):
        keras_mimo.add_unimodal_heads(fused_model(), FEATURES, head)
