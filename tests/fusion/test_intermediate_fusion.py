import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.layers import AttentionFusion
from keras_mimo.layers import GatedFusion
from keras_mimo.layers import ModalityDropout

CLASSES = 3
WIDTHS = {"accel": 6, "gyro": 5, "audio": 4}


def encoders(names=("accel", "gyro", "audio")):
    return {
        name: keras.Sequential(
            [keras.Input((WIDTHS[name],)), layers.Dense(7, activation="tanh")]
        )
        for name in names
    }


def readings(samples=12):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=(samples, width)).astype("float32")
        for name, width in WIDTHS.items()
    }


def dense_relu():
    return layers.Dense(8, activation="relu")


def functional():
    inner = {name: keras.Input((7,), name=name) for name in sorted(WIDTHS)}
    return keras.Model(inner, layers.Average()(list(inner.values())))


def gated_after_dropout():
    fuse, drop = GatedFusion(8), ModalityDropout(0.5)
    return lambda features: fuse(drop(features))


TRUNKS = {
    "default": lambda: None,
    "layer": dense_relu,
    "model_of_a_dict": functional,
    "gated": lambda: GatedFusion(8),
    "attention": lambda: AttentionFusion(8, num_heads=2),
    "function": gated_after_dropout,
}


def by_hand(model, x, kept):
    """The trunk and its head, with learnt vectors for all but some."""
    features = {}
    for name, value in x.items():
        features[name] = model.get_layer(f"{name}_encoder")(value)
        if name not in kept:
            features[name] = model.get_layer(f"{name}_absent")(features[name])
    joined = model.get_layer("fused_features")(list(features.values()))
    logits = model.get_layer("fused")(model.get_layer("trunk")(joined))
    return keras.ops.convert_to_numpy(logits)


def test_a_modality_alone_is_the_trunk_with_the_others_absent():
    model = keras_mimo.intermediate_fusion(encoders(), np.int64(CLASSES))
    for place, name in enumerate(WIDTHS):
        layer = model.get_layer(f"{name}_absent")
        # They start as zeros.
        assert not layer.get_weights()[0].any()
        layer.set_weights([np.full((1, 7), 0.3 + place, "float32")])
    x = readings()
    outputs = model.predict(x, verbose=0)
    assert list(model.output) == ["fused", *WIDTHS]
    expected = by_hand(model, x, WIDTHS)
    np.testing.assert_allclose(outputs["fused"], expected, atol=1e-5)
    for name in WIDTHS:
        expected = by_hand(model, x, [name])
        np.testing.assert_allclose(outputs[name], expected, atol=1e-5)
        assert outputs[name].dtype == "float32"
    encoders_of = model.encoder_variables
    assert {k: len(v) for k, v in encoders_of.items()} == dict.fromkeys(
        WIDTHS, 2
    )


@pytest.mark.slow
@pytest.mark.parametrize("trunk", TRUNKS)
def test_any_trunk_trains_and_is_served_by_keras(trunk, tmp_path):
    model = keras_mimo.intermediate_fusion(
        encoders(), CLASSES, trunk=TRUNKS[trunk]()
    )
    weights = len(model.weights)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )
    x, y = readings(), np.arange(12) % CLASSES
    before = model.get_weights()
    model.fit(x, y, batch_size=6, verbose=0)
    assert len(model.weights) == weights
    assert all(
        (old != new).any()
        for old, new in zip(before, model.get_weights(), strict=True)
        if old.dtype == "float32"
    )
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    actual = loaded.predict(x, verbose=0)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=1e-6)

    plain = keras_mimo.inference_model(model)
    modules = {type(la).__module__ for la in plain._flatten_layers()}
    assert not [m for m in modules if m.startswith("keras_mimo")]
    # One pass: nothing is left of what is absent.
    assert not [la for la in plain.layers if la.name.endswith("_absent")]
    plain.save(tmp_path / "plain.keras")
    plain = keras.saving.load_model(tmp_path / "plain.keras")
    np.testing.assert_allclose(
        plain.predict(x, verbose=0), expected["fused"], atol=1e-6
    )


def test_the_head_and_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras_mimo.intermediate_fusion(
            encoders(("accel", "gyro")),
            CLASSES,
            head=lambda name: layers.Dense(CLASSES, name=f"{name}_own"),
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert {x.dtype for x in model.outputs} == {"float32"}


@pytest.mark.parametrize(
    "trunk, error, message",
    [
        ("dense", TypeError, "`trunk` must be a Keras layer"),
        (lambda f: f, ValueError, "`trunk` must return one tensor"),
        (layers.Reshape((1, 14)), ValueError, "`trunk` must return one"),
    ],
)
def test_bad_trunks(trunk, error, message):
    with pytest.raises(error, match=message):
        keras_mimo.intermediate_fusion(
            encoders(("accel", "gyro")), CLASSES, trunk=trunk
        )


def test_late_fusion_by_a_layer_has_a_head_on_it():
    fuse = GatedFusion(5)
    model = keras_mimo.late_fusion(encoders(), CLASSES, fusion=fuse)
    x = readings()
    outputs = model.predict(x, verbose=0)
    features = {k: model.get_layer(f"{k}_encoder")(v) for k, v in x.items()}
    expected = model.get_layer("fused")(fuse(features))
    np.testing.assert_allclose(
        outputs["fused"], keras.ops.convert_to_numpy(expected), atol=1e-5
    )
