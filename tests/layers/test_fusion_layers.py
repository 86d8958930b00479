import keras
import numpy as np
import pytest

from keras_mimo.layers import AbsentFeatures
from keras_mimo.layers import AttentionFusion
from keras_mimo.layers import GatedFusion
from keras_mimo.layers import KeepPresent
from keras_mimo.layers import ModalityDropout


def features(samples=6):
    rng = np.random.default_rng(1)
    return {
        "text": rng.normal(size=(samples, 3)).astype("float32"),
        "image": rng.normal(size=(samples, 4)).astype("float32"),
        "audio": rng.normal(size=(samples, 2)).astype("float32"),
    }


def numpy_of(x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, x)


def test_gated_fusion_is_its_formula():
    x, layer = features(), GatedFusion(5)
    actual = numpy_of(layer(x))
    joined = np.concatenate([x[m] for m in sorted(x)], axis=-1)
    gates, values = [], []
    for name in sorted(x):
        kernel, bias = layer.gates[name].get_weights()
        gates.append(joined @ kernel + bias)
        kernel, bias = layer.values[name].get_weights()
        values.append(np.tanh(x[name] @ kernel + bias))
    p = np.exp(gates) / np.exp(gates).sum(axis=0)
    np.testing.assert_allclose(actual, (p * values).sum(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    "layer", [GatedFusion(4), AttentionFusion(4, num_heads=2, dropout=0.1)]
)
def test_fusion_does_not_depend_on_the_order_of_the_dict(layer):
    x = features()
    expected = numpy_of(layer(x))
    actual = numpy_of(layer({name: x[name] for name in reversed(x)}))
    np.testing.assert_array_equal(actual, expected)
    assert expected.shape == (6, 4)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    with pytest.raises(ValueError, match="dict of the features"):
        copy(x["text"])


def test_attention_is_among_the_modalities():
    layer = AttentionFusion(4, num_heads=2)
    x = features()
    layer(x)
    tokens = np.stack(
        [numpy_of(layer.tokens[name](x[name])) for name in sorted(x)], axis=1
    )
    normal = layer.normalization(tokens)
    expected = tokens + numpy_of(layer.attention(normal, normal))
    np.testing.assert_allclose(
        numpy_of(layer(x)), expected.mean(axis=1), atol=1e-5
    )
    with pytest.raises(ValueError, match="must divide"):
        AttentionFusion(4, num_heads=3)


def test_absent_features_are_one_learnt_vector():
    x = features()["text"]
    layer = AbsentFeatures()
    assert not numpy_of(layer(x)).any()
    layer.set_weights([np.array([[1.0, 2.0, 3.0]])])
    np.testing.assert_array_equal(numpy_of(layer(x)), [[1.0, 2.0, 3.0]] * 6)
    present = np.arange(6) % 2 == 0
    x[~present] = np.nan
    actual = numpy_of(layer(x, present=present))
    np.testing.assert_array_equal(actual[present], x[present])
    np.testing.assert_array_equal(actual[~present], [[1.0, 2.0, 3.0]] * 3)


def test_keep_present_leaves_out_what_is_not():
    x, present = features()["text"], np.array([True, False] * 3)
    kept = KeepPresent()([x, present])
    np.testing.assert_array_equal(numpy_of(kept), x * present[:, None])
    np.testing.assert_array_equal(numpy_of(kept._keras_mask), present)


def test_modality_dropout_drops_whole_modalities_and_never_all():
    x = {k: np.ones_like(v) for k, v in features(3000).items()}
    layer = ModalityDropout(0.4, seed=3)
    for name, value in numpy_of(layer(x, training=False)).items():
        np.testing.assert_array_equal(value, x[name])
    dropped = numpy_of(layer(x, training=True))
    for value in dropped.values():
        assert set(np.unique(value)) == {0.0, 1.0}
        assert (value.min(axis=1) == value.max(axis=1)).all()
    kept = np.stack([dropped[name][:, 0] for name in x])
    assert kept.any(axis=0).all()
    # Each is dropped, unless all would be and it is the one that is kept.
    expected = 1 - 0.4 + 0.4**3 / 3
    np.testing.assert_allclose(kept.mean(axis=1), expected, atol=0.03)
    with pytest.raises(ValueError, match="`rate` must be"):
        ModalityDropout(1.0)
    with pytest.raises(ValueError, match="dict of modalities"):
        ModalityDropout(0.5)(x["text"])
