import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_mimo.models import text_encoder
from tests.models.backbones import backbone


def small(**arguments):
    return text_encoder(
        **{"vocabulary_size": 20, "length": 6, "width": 8, **arguments}
    )


def texts():
    ids = np.random.default_rng(0).integers(1, 20, (4, 6)).astype("int32")
    ids[1, 3:] = 0
    ids[2] = 0
    return ids


def test_parameters():
    model = small(layers=1)
    assert model.input_shape == (None, 6)
    assert model.input.dtype == "int32"
    assert model.output_shape == (None, 8)
    block = 2 * 16 + 4 * (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    assert model.count_params() == 20 * 8 + 6 * 8 + block + 16


@pytest.mark.parametrize("padding", [0, 1])
def test_padding_has_no_part(padding):
    model = small(padding=padding)
    ids = texts()
    ids = np.where(ids == 0, padding, np.maximum(ids, 2))
    features = model.predict(ids, verbose=0)
    np.testing.assert_array_equal(features[2], 0)
    (table,) = model.get_layer("tokens").get_weights()
    table[padding] += np.random.default_rng(1).normal(size=8)
    model.get_layer("tokens").set_weights([table])
    moved = model.predict(ids, verbose=0)
    np.testing.assert_allclose(moved, features, atol=1e-5)
    assert np.all(np.isfinite(features))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("segments", [True, False])
def test_a_backbone_gets_what_it_would_have_got(pooled, segments):
    inner = backbone(pooled, segments)
    model = text_encoder(backbone=inner, length=6, name="bert")
    assert model.name == "bert"
    assert model.input_shape == (None, 6)
    assert model.output_shape == (None, 8)
    assert model.count_params() == inner.count_params()
    ids = texts()
    mask = (ids != 0).astype("int32")
    x = {"token_ids": ids, "padding_mask": mask}
    if segments:
        x["segment_ids"] = np.zeros_like(ids)
    expected = inner.predict(x, verbose=0)
    if pooled:
        expected = expected["pooled_output"]
    else:
        count = np.maximum(mask.sum(axis=1, keepdims=True), 1)
        expected = (expected * mask[:, :, None]).sum(axis=1) / count
    actual = model.predict(ids, verbose=0)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_a_dict_with_a_sequence_only():
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    sequence = layers.Embedding(20, 4)(ids)
    inner = keras.Model({"token_ids": ids}, {"sequence_output": sequence})
    model = text_encoder(backbone=inner, length=6, padding=3)
    assert model.output_shape == (None, 4)
    (table,) = inner.get_weights()
    x = np.array([[5, 3, 3, 3, 3, 7]])
    expected = (table[5] + table[7]) / 2
    np.testing.assert_allclose(
        model.predict(x, verbose=0)[0], expected, atol=1e-6
    )


def no_backbone(kind):
    ids = keras.Input((6,), dtype="int32", name="token_ids")
    sequence = layers.Embedding(20, 4)(ids)
    if kind == "layer":
        return layers.Dense(4)
    if kind == "one input":
        return keras.Model(ids, sequence)
    if kind == "other inputs":
        other = keras.Input((6,), name="other")
        inputs = {"token_ids": ids, "other": other}
        return keras.Model(inputs, sequence + ops.expand_dims(other, -1))
    if kind == "other outputs":
        return keras.Model({"token_ids": ids}, {"other": sequence})
    if kind == "features":
        return keras.Model({"token_ids": ids}, ops.mean(sequence, axis=1))
    raise ValueError(kind)


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        ("layer", TypeError, "`backbone` must be a Keras model"),
        ("one input", ValueError, "must be a functional model with a dict"),
        ("other inputs", ValueError, "'other'"),
        ("other outputs", ValueError, "'other'"),
        ("features", ValueError, "a sequence of shape"),
    ],
)
def test_what_is_no_backbone(kind, error, match):
    with pytest.raises(error, match=match):
        text_encoder(backbone=no_backbone(kind), length=6)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"vocabulary_size": None}, ValueError, "vocabulary_size=None"),
        ({"backbone": "bert"}, ValueError, "backbone=bert"),
        ({"vocabulary_size": 0}, ValueError, "vocabulary_size=0"),
        ({"length": "6"}, TypeError, "length='6'"),
        ({"heads": 3}, ValueError, "width=8, heads=3"),
        ({"dropout": -1}, ValueError, "dropout=-1"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        small(**arguments)
