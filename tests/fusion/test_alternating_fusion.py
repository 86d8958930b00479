import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from tests.quick import quick

CLASSES = 3
SIZE = 24
Y = np.arange(SIZE) % CLASSES
rng = np.random.default_rng(0)
X = {
    m: (2 * np.eye(CLASSES)[Y] + rng.normal(size=(SIZE, CLASSES))).astype("f")
    for m in ("v", "a")
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder(units=4):
    return keras.Sequential([keras.Input((CLASSES,)), layers.Dense(units)])


def build(optimizer=None, **options):
    encoders = {m: encoder() for m in X}
    model = keras_mimo.alternating_fusion(encoders, CLASSES, 0.1)
    optimizer = optimizer or keras.optimizers.SGD(0.1)
    model.compile(optimizer, LOSS, metrics=["accuracy"], **options)
    return model


def fit(model, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(X, Y, **options).history


def moved(model, train):
    """Which encoders a training moves."""
    before = {m: model.get_layer(f"{m}_encoder").get_weights() for m in X}
    train(model)
    after = {m: model.get_layer(f"{m}_encoder").get_weights() for m in X}
    return {
        m
        for m in X
        if any(
            (old != new).any()
            for old, new in zip(before[m], after[m], strict=True)
        )
    }


@pytest.mark.parametrize("combiner", quick([None], [None, "sum"]))
def test_modalities_take_turns(combiner):
    model = build(combiner=combiner)
    assert list(model.output) == ["fused", "v", "a"]
    for expected in ("a", "v", "a"):
        assert moved(model, lambda m: m.train_on_batch(X, Y)) == {expected}


@pytest.mark.slow
def test_every_modality_learns():
    keras.utils.set_random_seed(0)
    model = build(keras.optimizers.SGD(0.2))
    before = model.evaluate(X, Y, return_dict=True, verbose=0)
    fit(model, epochs=12)
    after = model.evaluate(X, Y, return_dict=True, verbose=0)
    for name in ("fused_loss", "a_loss", "v_loss"):
        assert after[name] < before[name]


@pytest.mark.slow
def test_saved_and_resumed(tmp_path):
    def run():
        keras.utils.set_random_seed(0)
        return build(keras.optimizers.SGD(0.1, momentum=0.9))

    straight = run()
    fit(straight, epochs=2)
    model = run()
    # Three batches: the next turn is that of v.
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fit(loaded, epochs=2, initial_epoch=1)
    for a, b in zip(straight.weights, loaded.weights, strict=True):
        a, b = map(keras.ops.convert_to_numpy, (a, b))
        np.testing.assert_allclose(b, a, atol=1e-6)


def test_served_without_what_training_needs(tmp_path):
    model = build()
    fit(model)
    expected = model.predict(X, verbose=0)["fused"]
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    actual = clone.predict(X, verbose=0)["fused"]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    served = keras_mimo.inference_model(model)
    # Two encoders and a dense head.
    assert served.count_params() == 2 * 16 + 15
    served.save(tmp_path / "served.keras")
    again = keras.models.load_model(tmp_path / "served.keras")
    np.testing.assert_allclose(again.predict(X, verbose=0), expected, atol=1e-6)


@pytest.mark.slow
def test_mixed_precision_and_a_comparison():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
        logs = fit(model, epochs=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(logs["loss"]).all()
    assert model.output["fused"].dtype == "float32"
    result = keras_mimo.compare(
        lambda: keras_mimo.late_fusion({m: encoder() for m in X}, CLASSES),
        (X, Y),
        (X, Y),
        methods=[
            {
                "name": "MLA",
                "build": lambda: keras_mimo.alternating_fusion(
                    {m: encoder() for m in X}, CLASSES
                ),
            }
        ],
        compile={"optimizer": "sgd", "loss": LOSS},
        fit={"epochs": 1, "batch_size": 8},
        seeds=1,
    )
    assert "failed" not in str(result)


def test_features_of_several_widths():
    with pytest.raises(ValueError, match="features of one width"):
        keras_mimo.alternating_fusion(
            {"a": encoder(4), "v": encoder(5)}, CLASSES
        )
