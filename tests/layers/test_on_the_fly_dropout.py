import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.layers import OnTheFlyDropout


def ready(names="av", scores=None, **options):
    """A layer after its warm-up, with scores in the order of the names."""
    layer = OnTheFlyDropout(warm_up=0, **options)
    layer.build({name: (None, 3 + i) for i, name in enumerate(names)})
    if scores is not None:
        layer.update_scores(np.array(scores, "float32"))
    return layer


def rates(scores, **options):
    layer = ready("abcd"[: len(scores)], scores, **options)
    return keras.ops.convert_to_numpy(layer.rates())


def numpy_of(x):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, x)


@pytest.mark.parametrize(
    "scores, expected",
    [
        # rho = 2, and 1 / 2.
        ([0.6, 0.3], [0.5 * (1 + 0.5 * 0.7615942), 0.0]),
        # rho = (2 + 6) / 2, (1/2 + 3) / 2 and (1/6 + 1/3) / 2.
        (
            [0.6, 0.3, 0.1],
            [0.5 * (1 + 0.5 * 0.9950548), 0.5 * (1 + 0.5 * 0.6351490), 0.0],
        ),
        ([0.2, 0.2], [0.0, 0.0]),
        ([0.0, 0.3], [0.0, 0.75]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_rates_by_hand(scores, expected):
    np.testing.assert_allclose(rates(scores), expected, rtol=1e-6)


def test_the_stronger_is_dropped_and_the_weakest_never():
    rng = np.random.default_rng(0)
    for modalities in (2, 3, 4):
        for _ in range(8):
            scores = rng.uniform(0.01, 1, modalities)
            q = rates(scores, rate=0.9, strength=2.0)
            assert q[np.argmin(scores)] == 0
            assert 0 < q[np.argmax(scores)] == q.max() <= 1
            # Only ratios count.
            again = rates(scores / 50, rate=0.9, strength=2.0)
            np.testing.assert_allclose(again, q, atol=1e-4)


def test_whole_modalities_of_samples_are_dropped_and_the_rest_scaled():
    x = {"v": np.ones((4000, 4), "f"), "a": np.ones((4000, 3), "f")}
    layer = ready("av", [0.6, 0.3], execution=1.0, seed=1)
    q = 0.5 * (1 + 0.5 * np.tanh(1.0))
    scale = 1 / (1 - 3 * q / 7)
    outputs = numpy_of(layer(x, training=True))
    assert list(outputs) == ["v", "a"]
    np.testing.assert_allclose(outputs["v"], scale, rtol=1e-5)
    dropped = outputs["a"][:, 0] == 0
    np.testing.assert_allclose(dropped.mean(), q, atol=0.03)
    np.testing.assert_array_equal(outputs["a"][dropped], 0)
    np.testing.assert_allclose(outputs["a"][~dropped], scale, rtol=1e-5)
    for name, value in numpy_of(layer(x, training=False)).items():
        np.testing.assert_array_equal(value, x[name])


def test_a_batch_is_modulated_with_the_probability_of_execution():
    x = {name: np.ones((8, 3), "f") for name in "av"}
    layer = ready("av", [0.6, 0.3], execution=0.3, seed=2)
    modulated = [
        float(numpy_of(layer(x, training=True)["v"])[0, 0]) > 1
        for _ in range(150)
    ]
    np.testing.assert_allclose(np.mean(modulated), 0.3, atol=0.1)


def test_nothing_is_dropped_before_scores_and_in_the_warm_up():
    assert not rates([1.0, 1.0]).any()
    layer = OnTheFlyDropout(warm_up=2)
    layer.build({"a": (None, 3), "v": (None, 3)})
    layer.update_scores(np.array([0.9, 0.1], "float32"))
    found = []
    for _ in range(3):
        found.append(bool(numpy_of(layer.rates()).any()))
        layer.on_epoch_end()
    assert found == [False, False, True]


def test_scores_that_are_not_finite_change_nothing():
    layer = ready("av", [0.6, 0.3])
    for bad in (np.nan, np.inf):
        layer.update_scores(np.array([bad, 0.1], "float32"))
    np.testing.assert_allclose(numpy_of(layer.scores), [0.6, 0.3])


def test_only_the_weaker_encoder_learns_where_the_other_is_always_dropped(
    tmp_path,
):
    drop = OnTheFlyDropout(rate=1.0, execution=1.0, warm_up=0)
    join = layers.Concatenate()

    def encoder(width):
        return keras.Sequential([keras.Input((width,)), layers.Dense(4)])

    model = keras_mimo.late_fusion(
        {"a": encoder(3), "v": encoder(2)},
        num_classes=2,
        fusion=lambda features: join(list(drop(features).values())),
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    rng = np.random.default_rng(0)
    x = {
        "a": rng.normal(size=(12, 3)).astype("float32"),
        "v": rng.normal(size=(12, 2)).astype("float32"),
    }
    y = np.arange(12) % 2
    expected = model.predict(x, verbose=0)["fused"]
    for scores, learns in (([0.9, 0.1], "v"), ([0.1, 0.9], "a")):
        drop.update_scores(np.array(scores, "float32"))
        before = kernels(model)
        # The scores are those of the batch before, and it has one.
        model.fit(x, y, batch_size=12, verbose=0)
        after = kernels(model)
        for name, kernel in after.items():
            assert (kernel != before[name]).any() == (name == learns)
    assert (model.predict(x, verbose=0)["fused"] != expected).any()

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    (copy,) = (
        layer
        for layer in loaded._flatten_layers()
        if isinstance(layer, OnTheFlyDropout)
    )
    assert copy.get_config() == drop.get_config()
    np.testing.assert_array_equal(numpy_of(copy.scores), numpy_of(drop.scores))
    assert float(numpy_of(copy.epochs)) == 2

    plain = keras_mimo.inference_model(model)
    modules = {type(layer).__module__ for layer in plain._flatten_layers()}
    assert not [m for m in modules if m.startswith("keras_mimo")]
    np.testing.assert_allclose(
        plain.predict(x, verbose=0),
        model.predict(x, verbose=0)["fused"],
        atol=1e-6,
    )


def kernels(model):
    return {
        name: model.get_layer(f"{name}_encoder").get_weights()[0]
        for name in "av"
    }


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"rate": 1.5}, ValueError, "`rate` must be from 0 to 1"),
        ({"execution": -0.1}, ValueError, "`execution` must be a non-neg"),
        ({"strength": "much"}, TypeError, "`strength` must be a non-neg"),
        ({"warm_up": -1}, ValueError, "`warm_up` must be a non-negative int"),
        ({"warm_up": 0.5}, TypeError, "`warm_up` must be a non-negative int"),
    ],
)
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        OnTheFlyDropout(**options)


def test_bad_inputs():
    with pytest.raises(ValueError, match="dict of the features of at least"):
        OnTheFlyDropout()(np.ones((2, 3), "float32"))


class ByEpoch(keras_mimo.modulations.Modulation):
    """Its factors stay, and no batch is scored for it."""

    by_batch = False


def test_a_training_step_scores_the_modalities():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 32)
    x = {
        "noise": rng.normal(size=(32, 4)).astype("float32"),
        "clear": np.eye(3, 4)[y].astype("float32"),
    }
    drop = keras_mimo.layers.OnTheFlyDropout(warm_up=1, seed=1)
    model = keras_mimo.late_fusion(
        {
            name: keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
            for name in x
        },
        num_classes=3,
        fusion=lambda features: keras.ops.concatenate(
            list(drop(features).values()), axis=-1
        ),
    )
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="sum",
        modulation=ByEpoch(),
    )
    logits = model.predict(x, verbose=0)
    logs = model.fit(x, y, batch_size=32, epochs=1, verbose=0).history
    assert logs["clear_factor"] == logs["noise_factor"] == [1.0]
    (layer,) = [
        found
        for found in model._flatten_layers()
        if isinstance(found, keras_mimo.layers.OnTheFlyDropout)
    ]
    assert layer.modalities == ["clear", "noise"]
    expected = [
        np.array(keras.ops.softmax(logits[m]))[np.arange(32), y].mean()
        for m in layer.modalities
    ]
    np.testing.assert_allclose(layer.scores, expected, rtol=1e-5)
    assert float(np.array(layer.epochs)) == 1
