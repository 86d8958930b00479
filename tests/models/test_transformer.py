import numpy as np
import pytest

from keras_mimo.models import Transformer


def small(**arguments):
    return Transformer(**{"input_shape": (6, 5), "width": 8, **arguments})


def sequences():
    x = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("float32")
    # As CMU-MOSEI pads them; one is padding only.
    x[1, :4] = 0
    x[2] = 0
    return x


def test_parameters():
    model = small()
    assert model.input_shape == (None, 6, 5)
    assert model.output_shape == (None, 8)
    dense, positions, normalization = 5 * 8 + 8, 6 * 8, 2 * 8
    block = (
        2 * normalization
        + 4 * (8 * 8 + 8)
        + (8 * 32 + 32)
        + (32 * 8 + 8)
    )  # fmt: skip
    assert model.count_params() == (
        dense + positions + 2 * block + normalization
    )
    deep = small(layers=3, name="text")
    assert deep.count_params() == model.count_params() + block
    assert deep.name == "text"


def test_order_counts():
    model, x = small(), sequences()
    features = model.predict(x, verbose=0)
    backwards = model.predict(x[:, ::-1], verbose=0)
    assert abs(features - backwards)[[0, 3]].min(axis=0).max() > 1e-3


def test_padding_has_no_part():
    model, x = small(), sequences()
    features = model.predict(x, verbose=0)
    assert np.all(np.isfinite(features))
    np.testing.assert_array_equal(features[2], 0)
    # Nor has what the network makes of steps that are padding.
    (table,) = model.get_layer("positions").get_weights()
    table[:4] += np.random.default_rng(1).normal(size=(4, 8))
    model.get_layer("positions").set_weights([table])
    moved = model.predict(x, verbose=0)
    np.testing.assert_allclose(moved[1], features[1], atol=1e-5)
    assert abs(moved - features)[0].max() > 1e-2


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"input_shape": (6,)}, ValueError, r"input_shape=\(6,\)"),
        ({"input_shape": (None, 5)}, TypeError, "input_shape=None"),
        ({"width": 9}, ValueError, "width=9, heads=4"),
        ({"layers": 0}, ValueError, "layers=0"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0"),
        ({"dropout": None}, ValueError, "dropout=None"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        small(**arguments)
