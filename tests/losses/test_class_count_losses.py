import itertools

import keras
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.special import logsumexp

from keras_mimo.losses import LDAM
from keras_mimo.losses import BalancedSoftmax
from keras_mimo.losses import ClassBalanced
from keras_mimo.losses import LogitAdjusted
from tests.backends import compiled
from tests.backends import gradient
from tests.quick import quick

COUNTS = [900, 90, 9, 1]
LOSSES = [
    BalancedSoftmax(COUNTS),
    LogitAdjusted(COUNTS, tau=0.7),
    LDAM(COUNTS, max_margin=0.4, scale=7),
    ClassBalanced(COUNTS, beta=0.99),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda x: x.name)


def batch(n=12, classes=4, scale=1.0):
    random = np.random.default_rng(0)
    logits = scale * random.normal(size=(n, classes))
    return np.arange(n) % classes, logits.astype("float32")


def cross_entropy(y, logits):
    return -log_softmax(logits, axis=-1)[np.arange(len(y)), y]


def weights(beta, counts=COUNTS):
    weight = (1 - beta) / (1 - beta ** np.array(counts, "float64"))
    return weight / weight.sum() * len(counts)


def expected(loss, y, logits):
    logits = logits.astype("float64")
    counts = np.array(COUNTS)
    if isinstance(loss, BalancedSoftmax):
        # log(sum_c n_c exp(z_c)) - log(n_y exp(z_y))
        own = np.log(counts[y]) + logits[np.arange(len(y)), y]
        return logsumexp(logits, axis=-1, b=counts) - own
    if isinstance(loss, LogitAdjusted):
        prior = counts / counts.sum()
        return cross_entropy(y, logits + loss.tau * np.log(prior))
    if isinstance(loss, LDAM):
        # The rarest class has one image, so the constant is the margin.
        margins = loss.max_margin / counts**0.25
        return cross_entropy(y, loss.scale * (logits - np.eye(4)[y] * margins))
    return cross_entropy(y, logits) * weights(0.99)[y]


def per_sample(loss, y, logits):
    return keras.ops.convert_to_numpy(loss.call(y, logits))


@each_loss
def test_formula(loss):
    y, logits = batch()
    np.testing.assert_allclose(
        per_sample(loss, y, logits), expected(loss, y, logits), rtol=2e-5
    )


@each_loss
@pytest.mark.parametrize("form", ["column", "one-hot"])
def test_other_labels_give_the_same(loss, form):
    y, logits = batch()
    labels = y[:, None] if form == "column" else np.eye(4, dtype="int32")[y]
    np.testing.assert_allclose(
        per_sample(loss, labels, logits),
        expected(loss, y, logits),
        rtol=2e-5,
    )


@each_loss
def test_labels_of_every_position(loss):
    y, logits = batch()
    result = per_sample(loss, y.reshape(3, 4), logits.reshape(3, 4, 4))
    np.testing.assert_allclose(
        result.ravel(), expected(loss, y, logits), rtol=2e-5
    )


@each_loss
def test_reductions_and_sample_weights_are_those_of_keras(loss):
    y, logits = batch()
    sample_weight = np.linspace(0, 2, len(y)).astype("float32")
    losses = expected(loss, y, logits) * sample_weight
    for reduction, result in {
        "sum": losses.sum(),
        "sum_over_batch_size": losses.mean(),
        "mean_with_sample_weight": losses.sum() / sample_weight.sum(),
        "none": losses,
    }.items():
        reduced = type(loss).from_config(
            {**loss.get_config(), "reduction": reduction}
        )
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(reduced(y, logits, sample_weight)),
            result,
            rtol=2e-5,
        )


@each_loss
def test_compiled(loss):
    y, logits = batch()
    np.testing.assert_allclose(
        compiled(loss)(y, logits), expected(loss, y, logits).mean(), rtol=2e-5
    )


@each_loss
def test_huge_logits(loss):
    y, logits = batch(scale=1e4)
    values = per_sample(loss, y, logits)
    np.testing.assert_allclose(values, expected(loss, y, logits), rtol=1e-4)
    slope = gradient(lambda x: loss(y, x), logits)
    assert np.isfinite(slope).all() and slope.any()


@each_loss
def test_half_precision_is_widened(loss):
    y, logits = batch()
    half = logits.astype("float16")
    result = loss(y, half)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(result),
        expected(loss, y, half).mean(),
        rtol=2e-5,
    )


def test_dtype_is_float32_at_least():
    assert LDAM(COUNTS, dtype="float16").dtype == "float32"
    assert LDAM(COUNTS, dtype="mixed_bfloat16").dtype == "float32"
    assert LDAM(COUNTS, dtype="float64").dtype == "float64"


def test_labels_above_256_survive_half_precision():
    classes = 1000
    loss = BalancedSoftmax(np.ones(classes), dtype="bfloat16")
    logits = np.zeros((1, classes), "float32")
    logits[0, 999] = 30
    value = keras.ops.convert_to_numpy(loss(np.array([999]), logits))
    assert value < 1e-6


def test_balanced_softmax_is_adjustment_with_tau_1():
    y, logits = batch()
    np.testing.assert_allclose(
        per_sample(BalancedSoftmax(COUNTS), y, logits),
        per_sample(LogitAdjusted(COUNTS), y, logits),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "loss",
    [LogitAdjusted(COUNTS, tau=0), ClassBalanced(COUNTS, beta=0)],
    ids=lambda loss: loss.name,
)
def test_neutral_argument_gives_plain_cross_entropy(loss):
    y, logits = batch()
    np.testing.assert_allclose(
        per_sample(loss, y, logits), cross_entropy(y, logits), rtol=2e-5
    )


def test_largest_margin_is_that_of_the_rarest_class():
    counts = [256, 16]
    y, logits = np.array([0, 1]), np.zeros((2, 2), "float32")
    # Margins of 1/4 and 1/2.
    np.testing.assert_allclose(
        per_sample(LDAM(counts, scale=1), y, logits),
        np.log1p(np.exp([0.25, 0.5])),
        rtol=1e-5,
    )


def test_class_weights_have_mean_1():
    # Each class once, and the same loss for each.
    y, logits = np.arange(4), np.zeros((4, 4), "float32")
    for beta in (0.5, 0.99, 0.9999, 1 - 1e-12):
        values = per_sample(ClassBalanced(COUNTS, beta=beta), y, logits)
        np.testing.assert_allclose(values.mean(), np.log(4), rtol=1e-5)


def test_beta_close_to_1_weighs_by_the_inverse_count():
    y, logits = np.arange(4), np.zeros((4, 4), "float32")
    values = per_sample(ClassBalanced(COUNTS, beta=1 - 1e-12), y, logits)
    np.testing.assert_allclose(
        values / values[0], 900 / np.array(COUNTS), rtol=1e-5
    )


@pytest.mark.parametrize("kind", [BalancedSoftmax, LogitAdjusted, LDAM])
def test_reweight_multiplies_by_class_weights(kind):
    y, logits = batch()
    np.testing.assert_allclose(
        per_sample(kind(COUNTS, reweight=0.9), y, logits),
        per_sample(kind(COUNTS), y, logits) * weights(0.9)[y],
        rtol=2e-5,
    )


@pytest.mark.parametrize(
    "kind", [BalancedSoftmax, LogitAdjusted, LDAM, ClassBalanced]
)
def test_empty_class_is_like_the_rarest(kind):
    y, logits = batch()
    values = per_sample(kind([900, 90, 9, 0]), y, logits)
    np.testing.assert_allclose(
        values, per_sample(kind([900, 90, 9, 9]), y, logits), rtol=1e-6
    )
    assert np.isfinite(values).all()


@each_loss
def test_config_round_trip(loss):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    y, logits = batch()
    np.testing.assert_array_equal(
        per_sample(again, y, logits), per_sample(loss, y, logits)
    )


@pytest.mark.parametrize(
    "loss, labels",
    quick(
        zip(LOSSES[2:], ("sparse", "one-hot"), strict=True),
        itertools.product(LOSSES, ("sparse", "one-hot")),
    ),
    ids=lambda x: getattr(x, "name", x),
)
def test_fit_learns_and_a_saved_model_scores_alike(loss, labels, tmp_path):
    random = np.random.default_rng(1)
    y = np.arange(64) % 4
    x = (np.eye(4)[y] + 0.1 * random.normal(size=(64, 4))).astype("float32")
    y = y if labels == "sparse" else np.eye(4, dtype="float32")[y]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.1), loss=loss)
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=10, batch_size=16, verbose=0)
    after = model.evaluate(x, y, verbose=0)
    assert after < before / 2

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.evaluate(x, y, verbose=0), after, rtol=1e-5
    )


def test_fit_under_mixed_precision():
    y, x = batch(64)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4, dtype="mixed_float16"),
        ]
    )
    model.compile("sgd", loss=LDAM(COUNTS))
    history = model.fit(x, y, epochs=3, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("counts", "error", "reason"),
    [
        (3, ValueError, "class_counts=3"),
        ("many", TypeError, "class_counts='many'"),
        (None, ValueError, "class_counts=None"),
        ([5], ValueError, "at least two"),
        ([[5, 1]], ValueError, "at least two"),
        ([5, -1], ValueError, "not negative"),
        ([5, np.nan], ValueError, "finite"),
        ([5, np.inf], ValueError, "finite"),
        ([0, 0], ValueError, "at least one class with images"),
    ],
)
def test_bad_class_counts(counts, error, reason):
    with pytest.raises(error, match="`class_counts` must") as raised:
        BalancedSoftmax(counts)
    assert raised.match(reason)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: LogitAdjusted(COUNTS, tau=-1), ValueError, "tau=-1"),
        (lambda: LogitAdjusted(COUNTS, tau="1"), TypeError, "tau=1"),
        (lambda: LDAM(COUNTS, max_margin=0), ValueError, "max_margin=0"),
        (lambda: LDAM(COUNTS, scale=np.inf), ValueError, "scale=inf"),
        (lambda: LDAM(COUNTS, reweight=1), ValueError, "reweight=1"),
        (lambda: ClassBalanced(COUNTS, beta=1.0), ValueError, "beta=1.0"),
        (lambda: ClassBalanced(COUNTS, beta="x"), TypeError, "beta='x'"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("y_shape", "logits_shape", "match"),
    [
        ((5,), (5, 3), r"4 classes .*\(5, 3\)"),
        ((5, 2), (5, 4), r"y_true.shape=\(5, 2\)"),
        ((5, 4, 1), (5, 4), r"y_true.shape=\(5, 4, 1\)"),
    ],
)
def test_bad_shapes(y_shape, logits_shape, match):
    with pytest.raises(ValueError, match=match):
        BalancedSoftmax(COUNTS)(np.zeros(y_shape), np.zeros(logits_shape))
