import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo

CLASSES = 3
SIZE = 24
Y = np.arange(SIZE) % CLASSES
rng = np.random.default_rng(0)
X = {
    m: (np.eye(CLASSES)[Y] + rng.normal(size=(SIZE, 4, CLASSES))[:, k]).astype(
        "float32"
    )
    for k, m in enumerate("av")
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(units=CLASSES):
    return keras.Sequential(
        [
            keras.Input((CLASSES,)),
            layers.Dense(4, activation="tanh"),
            layers.Dense(units),
        ],
        name="same",
    )


def softmax(z):
    return keras.ops.convert_to_numpy(keras.ops.softmax(z))


def test_predictions_are_averaged(tmp_path):
    models = {m: classifier() for m in X}
    ensemble = keras_mimo.unimodal_ensemble(models)
    outputs = ensemble.predict(X, verbose=0)
    alone = {m: models[m].predict(X[m], verbose=0) for m in X}
    for m in X:
        np.testing.assert_allclose(outputs[m], alone[m], atol=1e-6)
    expected = (softmax(alone["a"]) + softmax(alone["v"])) / 2
    np.testing.assert_allclose(np.exp(outputs["fused"]), expected, atol=1e-6)
    served = keras_mimo.inference_model(ensemble)
    served.save(tmp_path / "served.keras")
    again = keras.models.load_model(tmp_path / "served.keras")
    np.testing.assert_allclose(
        again.predict(X, verbose=0), outputs["fused"], atol=1e-6
    )
    ensemble.save(tmp_path / "all.keras")
    again = keras.models.load_model(tmp_path / "all.keras")
    np.testing.assert_allclose(
        again.predict(X, verbose=0)["fused"], outputs["fused"], atol=1e-6
    )


@pytest.mark.slow
def test_each_is_trained_as_it_would_be_alone():
    models = {m: classifier() for m in X}
    copies = {m: keras.models.clone_model(models[m]) for m in X}
    for m in X:
        copies[m].set_weights(models[m].get_weights())
    ensemble = keras_mimo.unimodal_ensemble(models)
    fit = {"epochs": 3, "batch_size": 8, "shuffle": False, "verbose": 0}
    ensemble.compile(
        keras.optimizers.Adam(0.01),
        LOSS,
        combiner=keras_mimo.ConstantCombiner({"a": 1.0, "v": 1.0}),
    )
    ensemble.fit(X, Y, **fit)
    for m in X:
        copies[m].compile(keras.optimizers.Adam(0.01), LOSS)
        copies[m].fit(X[m], Y, **fit)
        for expected, actual in zip(
            copies[m].get_weights(), models[m].get_weights(), strict=True
        ):
            np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_logits_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        ensemble = keras_mimo.unimodal_ensemble({m: classifier() for m in X})
    finally:
        keras.config.set_dtype_policy("float32")
    for output in ensemble.output.values():
        assert output.dtype == "float32"
    assert np.isfinite(ensemble.predict(X, verbose=0)["fused"]).all()


def test_invalid_arguments():
    with pytest.raises(TypeError, match="`models` must be a dict"):
        keras_mimo.unimodal_ensemble([classifier(), classifier()])
    with pytest.raises(ValueError, match="at least two modalities"):
        keras_mimo.unimodal_ensemble({"a": classifier()})
    with pytest.raises(ValueError, match="must return logits of one shape"):
        keras_mimo.unimodal_ensemble({"a": classifier(), "v": classifier(2)})
