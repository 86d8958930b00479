"""Backbones of keras-hub itself: `pytest -m hub`, where it is installed."""

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.models import text_encoder

pytestmark = pytest.mark.hub


def backbones():
    from keras_hub import models

    sizes = dict(
        vocabulary_size=20,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=12,
    )
    return {
        "bert": models.BertBackbone(**sizes),
        "distilbert": models.DistilBertBackbone(**sizes),
        "roberta": models.RobertaBackbone(**sizes),
    }


def test_backbones_train_are_saved_and_served(tmp_path):
    encoders = {
        name: text_encoder(
            backbone=backbone, length=7, padding=1 if name == "roberta" else 0
        )
        for name, backbone in backbones().items()
    }
    ids = np.random.default_rng(0).integers(2, 20, (6, 7)).astype("int32")
    ids[:, 5:] = 0
    x = {
        "bert": ids,
        "distilbert": ids[::-1].copy(),
        "roberta": np.where(ids == 0, 1, ids),
    }
    model = keras_mimo.late_fusion(encoders, num_classes=3)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )
    history = model.fit(x, np.arange(6) % 3, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]

    predicted = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in loaded.predict(x, verbose=0).items():
        np.testing.assert_allclose(value, predicted[name], atol=1e-5)
    model.export(tmp_path / "served", outputs="all", verbose=False)
    import tensorflow as tf

    served = tf.saved_model.load(tmp_path / "served")
    outputs = served.serve({k: tf.constant(v[:2]) for k, v in x.items()})
    for name, value in outputs.items():
        np.testing.assert_allclose(value, predicted[name][:2], atol=1e-5)
