import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.plots import loss_landscape
from keras_mimo.plots.landscape import _Weights

NAMES = ("audio", "image")
OPTIONS = dict(batch_size=32, verbose=0)


def data():
    random = np.random.default_rng(0)
    x = {m: random.normal(size=(32, 4)).astype("float32") for m in NAMES}
    return x, random.integers(3, size=32)


def model(seed):
    keras.utils.set_random_seed(seed)
    encoders = {
        m: keras.Sequential(
            [keras.Input((4,)), layers.Dense(5), layers.BatchNormalization()]
        )
        for m in NAMES
    }
    fused = keras_mimo.late_fusion(encoders, num_classes=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fused.compile("adam", loss)
    for w in fused.weights:
        noise = np.random.default_rng(seed).uniform(0.5, 1, w.shape)
        w.assign(noise.astype("float32"))
    return fused


@pytest.fixture(scope="module")
def pair():
    return model(0), model(1)


def assert_weights(model, expected):
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def copies(model):
    return [w.copy() for w in model.get_weights()]


def test_between(pair, tmp_path):
    x, y = data()
    path = tmp_path / "between.png"
    ends = [
        m.evaluate(x, y, return_dict=True, **OPTIONS)["audio_loss"]
        for m in pair
    ]
    one, other = pair
    before = copies(one), copies(other)
    figure = loss_landscape(
        one,
        x,
        y,
        other=other,
        names=("joint", "MIMO"),
        points=5,
        batch_size=32,
        path=path,
    )
    assert path.stat().st_size > 1000
    assert_weights(one, before[0])
    assert_weights(other, before[1])
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert [n for n in lines if n[0] != "_"] == [
        "fused_loss",
        "audio_loss",
        "image_loss",
    ]
    places, heights = lines["audio_loss"].get_data()
    np.testing.assert_allclose(places, [-0.5, 0, 0.5, 1, 1.5])
    # With the statistics of each, too.
    np.testing.assert_allclose(heights[[1, 3]], ends, rtol=1e-6)
    assert [t.get_text() for t in axis.get_xticklabels()] == ["joint", "MIMO"]
    # Weights do as well as a model.
    again = loss_landscape(one, x, y, before[1], ["audio_loss"], points=5)
    np.testing.assert_allclose(
        again.axes[0].get_lines()[0].get_ydata(), heights, rtol=1e-6
    )


def test_around(pair):
    x, y = data()
    one, _ = pair
    before = copies(one)
    figure = loss_landscape(one, x, y, points=3, batch_size=32)
    assert_weights(one, before)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["loss of fused", "loss of audio", "loss of image"]
    assert figure.axes[0].get_xlabel() == "first random direction"


def test_filters_are_as_long_as_those_of_the_model(pair):
    one, _ = pair
    first, second = _Weights(one).random_directions(seed=0)
    again, _ = _Weights(one).random_directions(seed=0)
    for weight, a, b, c in zip(one.weights, first, second, again, strict=True):
        np.testing.assert_array_equal(a, c)
        if len(weight.shape) == 1:
            assert not a.any()
            continue
        lengths = [np.linalg.norm(v, axis=0) for v in (np.array(weight), a, b)]
        np.testing.assert_allclose(lengths[0], lengths[1], rtol=1e-6)
        np.testing.assert_allclose(lengths[0], lengths[2], rtol=1e-6)
        assert not np.allclose(a, b)


def test_weights_come_back_after_an_error(pair):
    x, y = data()
    one, other = pair
    before = copies(one)
    with pytest.raises(ValueError, match=r"`losses`.*Received: 'sound_loss'"):
        loss_landscape(one, x, y, other=other, losses=["sound_loss"])
    assert_weights(one, before)


def test_errors(pair):
    x, y = data()
    one, _ = pair
    with pytest.raises(ValueError, match="same shapes"):
        loss_landscape(one, x, y, other=one.get_weights()[:-1])
    with pytest.raises(ValueError, match="`points` must be at least 2"):
        loss_landscape(one, x, y, points=1)
    with pytest.raises(ValueError, match="`span` must be a positive"):
        loss_landscape(one, x, y, span=0)
