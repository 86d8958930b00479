import keras
import numpy as np
import pytest

from keras_mimo.layers import ContrastiveHead
from keras_mimo.layers import CosineClassifier
from keras_mimo.losses import BalancedContrastive
from tests.backends import compiled
from tests.backends import gradient

CLASSES = 4


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def batch(n=6, views=2, dim=5, classes=CLASSES):
    random = np.random.default_rng(0)
    features = unit(random.normal(size=(n, views, dim)))
    prototypes = unit(random.normal(size=(classes, dim)))
    y = random.integers(classes - 1, size=n)
    y_pred = np.concatenate([features, features @ prototypes.T], axis=-1)
    return y, y_pred.astype("float32"), features, prototypes


def by_the_formula(y, features, prototypes, temperature):
    """Loops over anchors, positives and classes, as the paper writes it."""
    n, views, dim = features.shape
    classes = len(prototypes)
    points = np.concatenate([features.reshape(-1, dim), prototypes])
    labels = np.concatenate([np.repeat(y, views), np.arange(classes)])
    losses = []
    for i in range(n * views):
        similar = points @ points[i] / temperature
        members = [
            [k for k in np.flatnonzero(labels == c) if k != i]
            for c in range(classes)
        ]
        denominator = sum(np.exp(similar[m]).mean() for m in members)
        positives = members[labels[i]]
        losses.append(-np.mean(similar[positives] - np.log(denominator)))
    return np.reshape(losses, (n, views)).mean(axis=1)


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_formula(views, temperature):
    y, y_pred, features, prototypes = batch(views=views)
    loss = BalancedContrastive(CLASSES, temperature)
    expected = by_the_formula(y, features, prototypes, temperature)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss.call(y, y_pred)), expected, rtol=1e-4
    )
    np.testing.assert_allclose(
        compiled(loss)(y, y_pred), expected.mean(), rtol=1e-4
    )


def test_one_view_needs_no_axis():
    y, y_pred, *_ = batch(views=1)
    loss = BalancedContrastive(CLASSES)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss(y, y_pred[:, 0])),
        keras.ops.convert_to_numpy(loss(y, y_pred)),
        rtol=1e-6,
    )


def test_one_hot_labels_and_sample_weights():
    y, y_pred, features, prototypes = batch()
    sample_weight = np.linspace(0, 2, len(y))
    losses = by_the_formula(y, features, prototypes, 0.1)
    loss = BalancedContrastive(CLASSES)
    for labels in (np.eye(CLASSES)[y], y[:, None]):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(loss(labels, y_pred, sample_weight)),
            (losses * sample_weight).mean(),
            rtol=1e-4,
        )


def test_one_sample():
    y, y_pred, features, prototypes = batch(n=1, views=1)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(BalancedContrastive(CLASSES)(y, y_pred)),
        by_the_formula(y, features, prototypes, 0.1).mean(),
        rtol=1e-4,
    )


def test_gradient_at_a_small_temperature():
    y, y_pred, features, prototypes = batch()
    loss = BalancedContrastive(CLASSES, temperature=1e-3)
    slope = gradient(lambda x: loss(y, x), y_pred)
    assert np.isfinite(slope).all() and slope.any()
    # Against a difference quotient, where that is accurate.
    loss = BalancedContrastive(CLASSES, temperature=1.0)
    slope = gradient(lambda x: loss(y, x), y_pred)
    step = 1e-6
    for index in [(0, 0, 1), (2, 1, 3), (5, 0, 0)]:
        moved = []
        for sign in (1, -1):
            shifted = features.copy()
            shifted[index] += sign * step
            # The cosines are inputs of their own: hold them.
            moved.append(
                _with_cosines(y, shifted, features @ prototypes.T, 1.0)
            )
        np.testing.assert_allclose(
            slope[index], (moved[0] - moved[1]) / (2 * step), rtol=1e-3
        )


def _with_cosines(y, features, cosines, temperature):
    n, views, dim = features.shape
    points = features.reshape(-1, dim)
    cosines = cosines.reshape(n * views, -1)
    labels = np.repeat(y, views)
    total = 0.0
    for i in range(n * views):
        similar = points @ points[i] / temperature
        denominator = 0.0
        for c in range(cosines.shape[1]):
            members = [k for k in np.flatnonzero(labels == c) if k != i]
            terms = [*similar[members], cosines[i, c] / temperature]
            denominator += np.exp(terms).mean()
            if c == labels[i]:
                positive = np.mean(terms)
        total += np.log(denominator) - positive
    return total / (n * views)


def test_config_round_trip():
    loss = BalancedContrastive(CLASSES, 0.2, reduction="sum")
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert again.get_config() == loss.get_config()


@pytest.mark.slow
def test_model_with_two_views_learns_and_is_saved(tmp_path):
    random = np.random.default_rng(0)
    y = np.arange(48) % 3
    x = (np.eye(3)[y] + 0.3 * random.normal(size=(48, 3))).astype("float32")
    encoder = keras.Sequential([keras.layers.Dense(8, activation="relu")])
    inputs = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    features = keras.ops.stack([encoder(i) for i in inputs], axis=1)
    head = ContrastiveHead(CosineClassifier(3), units=6)
    model = keras.Model(inputs, head(features))
    model.compile(
        keras.optimizers.Adam(0.02),
        loss={
            "logits": keras.losses.SparseCategoricalCrossentropy(True),
            "contrast": BalancedContrastive(3),
        },
    )
    x, y = (x, x + 0.01), {"logits": y, "contrast": y}
    history = model.fit(x, y, epochs=15, batch_size=16, verbose=0).history
    assert history["contrast_loss"][-1] < history["contrast_loss"][0] - 0.1
    assert history["logits_loss"][-1] < history["logits_loss"][0]

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, output in model.predict(x, verbose=0).items():
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0)[name], output, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((1,), ValueError, "num_classes=1"),
        ((2.0,), TypeError, "num_classes=2.0"),
        ((3, 0), ValueError, "temperature=0"),
        ((3, "x"), TypeError, "temperature=x"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        BalancedContrastive(*arguments)


@pytest.mark.parametrize("shape", [(6, 4), (6, 2, 3), (6, 2, 2, 9)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"`y_pred` must be of shape"):
        BalancedContrastive(CLASSES)(np.zeros(6), np.zeros(shape))
