import itertools

import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import f1_score
from sklearn.metrics import recall_score

from keras_mimo.metrics import BalancedAccuracy
from keras_mimo.metrics import MacroF1
from keras_mimo.metrics import PerClassRecall
from keras_mimo.metrics import ShotAccuracy

CLASSES = 6
# Two classes a split; 100 and 20 are in the middle.
COUNTS = [500, 101, 100, 20, 19, 0]


def batch(n=200, present=CLASSES):
    random = np.random.default_rng(0)
    y = random.integers(present, size=n)
    logits = random.normal(size=(n, CLASSES)) + 1.5 * np.eye(CLASSES)[y]
    sample_weight = random.uniform(0.1, 3, size=n)
    return y, logits.astype("float32"), sample_weight


def shot(split):
    classes = {"many": [0, 1], "medium": [2, 3], "few": [4, 5]}[split]

    def score(y, guess, sample_weight=None):
        return recall_score(
            y,
            guess,
            labels=classes,
            average="macro",
            sample_weight=sample_weight,
        )

    return score


def macro_f1(y, guess, sample_weight=None):
    return f1_score(y, guess, average="macro", sample_weight=sample_weight)


def balanced(y, guess, sample_weight=None):
    return balanced_accuracy_score(y, guess, sample_weight=sample_weight)


SCALARS = [
    (BalancedAccuracy(CLASSES), balanced),
    (MacroF1(CLASSES), macro_f1),
    *((ShotAccuracy(COUNTS, s), shot(s)) for s in ("many", "medium", "few")),
]
each_scalar = pytest.mark.parametrize(
    ("metric", "reference"), SCALARS, ids=[m.name for m, _ in SCALARS]
)
METRICS = [*(m for m, _ in SCALARS), PerClassRecall(CLASSES, classes=[5, 0])]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)


@pytest.fixture(autouse=True)
def fresh_metrics():
    for metric in METRICS:
        metric.reset_state()


def score(metric, *args):
    metric.reset_state()
    return keras.tree.map_structure(keras.ops.convert_to_numpy, metric(*args))


@each_scalar
@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learn(metric, reference, weighted):
    y, logits, sample_weight = batch()
    weights = [sample_weight] if weighted else []
    np.testing.assert_allclose(
        score(metric, y, logits, *weights),
        reference(y, logits.argmax(1), *weights),
        rtol=1e-5,
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_recall_of_each_class(weighted):
    y, logits, sample_weight = batch()
    weights = [sample_weight] if weighted else []
    result = score(PerClassRecall(CLASSES), y, logits, *weights)
    assert list(result) == [f"recall_{c}" for c in range(CLASSES)]
    np.testing.assert_allclose(
        list(result.values()),
        recall_score(
            y,
            logits.argmax(1),
            average=None,
            sample_weight=sample_weight if weighted else None,
        ),
        rtol=1e-5,
    )


def test_named_classes_and_the_vector_of_all():
    y, logits, _ = batch()
    metric = PerClassRecall(CLASSES, classes=[5, 0], name="hit")
    result = score(metric, y, logits)
    expected = recall_score(y, logits.argmax(1), average=None)
    assert list(result) == ["hit_5", "hit_0"]
    np.testing.assert_allclose(result["hit_5"], expected[5], rtol=1e-5)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(metric.recalls()), expected, rtol=1e-5
    )


@each_scalar
def test_batches_add_up(metric, reference):
    y, logits, sample_weight = batch()
    for part in np.split(np.arange(200), [7, 70, 199]):
        metric.update_state(y[part], logits[part], sample_weight[part])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(metric.result()),
        reference(y, logits.argmax(1), sample_weight),
        rtol=1e-5,
    )


@each_metric
def test_forms_of_labels_predictions_and_weights(metric):
    y, logits, weights = batch()
    expected = score(metric, y, logits, weights)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    for arguments in [
        (y[:, None], logits, weights[:, None]),
        (np.eye(CLASSES)[y], logits, weights),
        (y.astype("float32"), probabilities, weights),
        (
            y.reshape(10, 20),
            logits.reshape(10, 20, CLASSES),
            weights.reshape(10, 20),
        ),
    ]:
        result = score(metric, *arguments)
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
            result,
            expected,
        )


@each_scalar
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_classes_without_samples(metric, reference):
    y, logits, _ = batch(present=4)
    guess = logits.argmax(1)
    assert set(guess) > set(y)
    if metric.name == "few_shot_accuracy":
        assert np.isnan(score(metric, y, logits))
    else:
        np.testing.assert_allclose(
            score(metric, y, logits), reference(y, guess), rtol=1e-5
        )


def test_recall_without_samples_is_nan():
    y, logits, _ = batch(present=4)
    result = list(score(PerClassRecall(CLASSES), y, logits).values())
    assert np.isnan(result[4:]).all() and np.isfinite(result[:4]).all()


@each_metric
def test_nothing_seen_is_nan(metric):
    result = keras.tree.flatten(metric.result())
    assert np.isnan([keras.ops.convert_to_numpy(r) for r in result]).all()


def test_shots_without_classes_are_nan():
    y, logits, _ = batch()
    metric = ShotAccuracy([500] * CLASSES, "few")
    assert metric.classes == []
    assert np.isnan(score(metric, y, logits))


@pytest.mark.parametrize(
    ("split", "options", "classes"),
    [
        ("many", {}, [0, 1]),
        ("medium", {}, [2, 3]),
        ("few", {}, [4, 5]),
        ("many", {"many": 99}, [0, 1, 2]),
        ("medium", {"many": 99, "few": 21}, []),
        ("few", {"few": 21}, [3, 4, 5]),
    ],
)
def test_thresholds(split, options, classes):
    assert ShotAccuracy(COUNTS, split, **options).classes == classes


@each_metric
def test_config_round_trip(metric):
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(metric)
    )
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    y, logits, _ = batch()
    keras.tree.map_structure(
        np.testing.assert_array_equal,
        score(again, y, logits),
        score(metric, y, logits),
    )


def test_counts_are_float32_at_least():
    metric = MacroF1(CLASSES, dtype="float16")
    # 2049 is no float16.
    metric.update_state(np.zeros(2049, int), np.eye(CLASSES)[[0] * 2049])
    assert float(metric.labels[0]) == 2049


def metrics():
    return [
        BalancedAccuracy(CLASSES),
        MacroF1(CLASSES),
        PerClassRecall(CLASSES),
        *(ShotAccuracy(COUNTS, s) for s in ("many", "medium", "few")),
    ]


def expected_logs(y, guess, sample_weight=None):
    recalls = recall_score(y, guess, average=None, sample_weight=sample_weight)
    return {
        "balanced_accuracy": balanced(y, guess, sample_weight),
        "macro_f1": macro_f1(y, guess, sample_weight),
        **{f"recall_{c}": recall for c, recall in enumerate(recalls)},
        **{
            f"{s}_shot_accuracy": shot(s)(y, guess, sample_weight)
            for s in ("many", "medium", "few")
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "labels, policy",
    list(
        itertools.product(("sparse", "one-hot"), ("float32", "mixed_float16"))
    ),
)
def test_compiled_fit_and_evaluate(labels, policy, tmp_path):
    y, x, _ = batch()
    dense = keras.layers.Dense(CLASSES, dtype=policy)
    model = keras.Sequential([keras.Input((CLASSES,)), dense])
    kind = "sparse_categorical" if labels == "sparse" else "categorical"
    target = y if labels == "sparse" else np.eye(CLASSES)[y]
    model.compile(
        keras.optimizers.SGD(0.0), f"{kind}_crossentropy", metrics=metrics()
    )
    # More than one batch, the last of them smaller, and more than one epoch.
    history = model.fit(
        x,
        target,
        batch_size=64,
        epochs=2,
        validation_data=(x[:90], target[:90]),
        verbose=0,
    ).history
    guess = model.predict(x, verbose=0).argmax(1)
    expected = expected_logs(y, guess)
    for name, value in expected.items():
        np.testing.assert_allclose(history[name], [value] * 2, rtol=1e-5)
    for name, value in expected_logs(y[:90], guess[:90]).items():
        np.testing.assert_allclose(
            history[f"val_{name}"], [value] * 2, rtol=1e-5
        )

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for scored in (model, loaded):
        logs = scored.evaluate(x, target, return_dict=True, verbose=0)
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, rtol=1e-5)


def test_weighted_metrics():
    y, x, sample_weight = batch()
    model = keras.Sequential(
        [keras.Input((CLASSES,)), keras.layers.Activation("softmax")]
    )
    model.compile(
        loss="sparse_categorical_crossentropy", weighted_metrics=metrics()
    )
    logs = model.evaluate(
        x, y, sample_weight=sample_weight, return_dict=True, verbose=0
    )
    for name, value in expected_logs(y, x.argmax(1), sample_weight).items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)


def test_progress_bar_and_list_of_results(capsys):
    y, x, _ = batch()
    model = keras.Sequential(
        [keras.Input((CLASSES,)), keras.layers.Activation("softmax")]
    )
    model.compile(
        loss="sparse_categorical_crossentropy",
        metrics=[PerClassRecall(CLASSES, classes=[0, 3])],
    )
    results = model.evaluate(x, y, verbose=2)
    recalls = recall_score(y, x.argmax(1), average=None)
    np.testing.assert_allclose(results[1:], recalls[[0, 3]], rtol=1e-5)
    assert f"recall_3: {recalls[3]:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: MacroF1(1), ValueError, "num_classes=1"),
        (lambda: BalancedAccuracy("3"), TypeError, "num_classes='3'"),
        (lambda: PerClassRecall(3, classes=[3]), ValueError, r"\[3\]"),
        (lambda: PerClassRecall(3, classes=[-1]), ValueError, r"\[-1\]"),
        (lambda: PerClassRecall(3, classes=["0"]), TypeError, r"\['0'\]"),
        (lambda: ShotAccuracy(COUNTS, "some"), ValueError, "split='some'"),
        (lambda: ShotAccuracy([1], "few"), ValueError, "class_counts"),
        (
            lambda: ShotAccuracy(COUNTS, "few", many=5, few=6),
            ValueError,
            "few=6, many=5",
        ),
        (lambda: ShotAccuracy(COUNTS, "few", few="x"), TypeError, "few=x"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_bad_shapes():
    with pytest.raises(ValueError, match="6 classes"):
        MacroF1(CLASSES).update_state(np.zeros(5), np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"y_true.shape=\(5, 2\)"):
        MacroF1(CLASSES).update_state(np.zeros((5, 2)), np.zeros((5, 6)))
