import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.callbacks import UpdatePrototypes
from keras_mimo.layers import PrototypeClassifier
from keras_mimo.losses import PrototypeRebalancing

CLASSES = 3
Y = np.arange(30) % CLASSES


def data(samples=30):
    """Of `strong` the class is easily told, and of `weak` it is not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(samples, CLASSES))
    return {
        "strong": (3 * np.eye(CLASSES)[Y] + 0.3 * noise).astype("float32"),
        "weak": (0.3 * np.eye(CLASSES)[Y] + noise).astype("float32"),
    }


X = data()


def head(name):
    if name == "fused":
        return layers.Dense(CLASSES)
    return PrototypeClassifier(CLASSES)


def encoder():
    return keras.Sequential([keras.Input((CLASSES,)), layers.Dense(4)])


def build(fused_weight=1.0, rate=0.05, **options):
    model = keras_mimo.late_fusion(
        {"weak": encoder(), "strong": encoder()},
        CLASSES,
        fusion="concat",
        head=head,
        missing=options.pop("missing", None),
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(rate),
        [{"fused": crossentropy}, PrototypeRebalancing(**options)],
        loss_weights=[{"fused": fused_weight}, 1.0],
        metrics=["accuracy"],
        combiner="sum",
    )
    return model


def prototypes(model, name):
    inner = model.get_layer(f"{name}_head")
    (found,) = (x for x in inner.layers if isinstance(x, PrototypeClassifier))
    return keras.ops.convert_to_numpy(found.prototypes)


def means(model, name, kept=slice(None)):
    features = model.get_layer(f"{name}_encoder").predict(X[name], verbose=0)
    features, y = features[kept], Y[kept]
    return np.stack([features[y == k].mean(axis=0) for k in range(CLASSES)])


def attached(model, *args, **kwargs):
    update = UpdatePrototypes(*args, **kwargs)
    update.set_model(model)
    return update


def batches(model=None, size=8):
    return [
        ({k: v[i : i + size] for k, v in X.items()}, Y[i : i + size])
        for i in range(0, 30, size)
    ]


@pytest.mark.parametrize("form", ["arrays", "one_hot", "batches"])
def test_prototypes_are_moving_averages_of_class_means(form):
    given = {
        "arrays": (X, Y),
        "one_hot": (X, np.eye(CLASSES)[Y]),
        "batches": batches(),
    }
    model = build()
    update = attached(model, given[form], share=1.0, momentum=0.3)
    update.on_train_begin()
    first = {name: means(model, name) for name in X}
    for name, expected in first.items():
        actual = prototypes(model, name)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    encoder = model.get_layer("weak_encoder")
    encoder.set_weights([2 * w + 1 for w in encoder.get_weights()])
    update.on_epoch_end(0)
    for name, before in first.items():
        expected = 0.3 * before + 0.7 * means(model, name)
        actual = prototypes(model, name)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    # Where there are prototypes, training begins with them.
    update.on_train_begin()
    np.testing.assert_array_equal(prototypes(model, name), actual)


def test_samples_without_a_modality_have_no_part():
    x = {**X, "weak": X["weak"].copy()}
    x["weak"][:10] = np.nan
    model = build(missing={"weak": None})
    attached(model, (x, Y), share=1.0).on_train_begin()
    for name, kept in (("weak", slice(10, None)), ("strong", slice(None))):
        expected = means(model, name, kept)
        np.testing.assert_allclose(prototypes(model, name), expected, atol=1e-5)


def test_a_share_of_each_class_is_taken_anew_each_time():
    """Features that name their sample."""
    names = ("a", "b")
    model = keras_mimo.late_fusion(
        {
            name: keras.Sequential([keras.Input((40,)), layers.Identity()])
            for name in names
        },
        CLASSES,
        fusion="concat",
        head=head,
    )
    x = dict.fromkeys(names, np.eye(40, dtype="float32"))
    y = np.array([0] * 27 + [1] * 11 + [2] * 2)
    update = attached(model, (x, y), seed=5)
    update.on_train_begin()
    taken = [prototypes(model, "a")]
    for epoch in range(2):
        update._update(epoch, momentum=0.0)
        taken.append(prototypes(model, "a"))
    for found in taken:
        assert (found > 0).sum(axis=1).tolist() == [3, 2, 1]
        assert set(y[found.any(axis=0)]) == {0, 1, 2}
        assert all((y[np.flatnonzero(found[k])] == k).all() for k in range(3))
    np.testing.assert_array_equal(taken[0], taken[1])
    assert (taken[1] != taken[2]).any()
    dataset = attached(model, [(x, y)] * 5, share=0.3)
    assert len(list(dataset._batches(0, CLASSES))) == 2
    unknown = attached(model, _Unknown([(x, y)] * 5))
    assert len(list(unknown._batches(0, CLASSES))) == 5


class _Unknown:
    """Batches whose number nobody knows."""

    def __init__(self, batches):
        self._batches = batches

    def __iter__(self):
        return iter(self._batches)


def test_the_weaker_encoder_is_pushed_and_the_stronger_is_not():
    model = build(fused_weight=0.0, early=False)
    update = UpdatePrototypes((X, Y), share=1.0, early_epochs=0)
    before = {name: score(model, name, update) for name in X}
    assert before["weak"] < before["strong"]
    kernels = {
        name: model.get_layer(f"{name}_encoder").get_weights() for name in X
    }
    model.fit(X, Y, epochs=3, batch_size=30, verbose=0, callbacks=[update])
    for name in X:
        after = model.get_layer(f"{name}_encoder").get_weights()
        moved = any(
            (a != b).any() for a, b in zip(after, kernels[name], strict=True)
        )
        assert moved == (name == "weak")
    assert score(model, "weak", update) > before["weak"]


def score(model, name, update):
    update.set_model(model)
    update.on_train_begin()
    logits = model.predict(X, verbose=0)[name]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p[np.arange(30), Y].mean()


def test_logs_are_the_loss_and_early_epochs_have_the_entropy():
    model = build(rate=0.0, mu=0.5, alpha=2.0)
    update = UpdatePrototypes((X, Y), share=1.0, early_epochs=1)
    history = model.fit(
        X,
        Y,
        epochs=2,
        batch_size=30,
        verbose=0,
        callbacks=[update],
        validation_data=(X, Y),
    ).history
    y_pred = model.predict(X, verbose=0)
    y_true = dict.fromkeys(y_pred, Y)
    expected = [
        float(PrototypeRebalancing(2.0, 0.5, early)(y_true, y_pred))
        for early in (True, False)
    ]
    assert expected[0] < expected[1] - 1e-3
    logged = history["prototype_rebalancing_loss"]
    np.testing.assert_allclose(logged, expected, rtol=1e-5)
    logged = history["val_prototype_rebalancing_loss"]
    np.testing.assert_allclose(logged, expected, rtol=1e-5)
    total = np.add(history["fused_loss"], expected)
    np.testing.assert_allclose(history["loss"], total, rtol=1e-5)
    assert {"fused_accuracy", "weak_accuracy", "strong_accuracy"} < set(history)


@pytest.mark.slow
def test_a_saved_run_goes_on_as_one_that_was_not(tmp_path):
    def fit(model, start, end):
        update = UpdatePrototypes((X, Y), share=0.5, early_epochs=2)
        options = {"batch_size": 10, "shuffle": False, "verbose": 0}
        model.fit(
            X,
            Y,
            initial_epoch=start,
            epochs=end,
            callbacks=[update],
            **options,
        )

    model = build()
    start = model.get_weights()
    fit(model, 0, 3)
    expected = model.get_weights()
    for name in X:
        assert (prototypes(model, name) != 0).any()
    other = build()
    other.set_weights(start)
    fit(other, 0, 1)
    other.save(tmp_path / "model.keras")
    logs = other.evaluate(X, Y, verbose=0, return_dict=True)
    other = keras.saving.load_model(tmp_path / "model.keras")
    loaded = other.evaluate(X, Y, verbose=0, return_dict=True)
    for name, value in logs.items():
        np.testing.assert_allclose(loaded[name], value, rtol=1e-5)
    fit(other, 1, 3)
    for actual, value in zip(other.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, value, atol=1e-6)


@pytest.mark.slow
def test_the_example_of_the_docstring():
    fused = keras_mimo.late_fusion(
        {"weak": encoder(), "strong": encoder()}, CLASSES
    )
    model = keras_mimo.add_unimodal_heads(
        keras_mimo.inference_model(fused),
        {"weak": "weak_encoder", "strong": "strong_encoder"},
        head=head,
    )
    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        "adam",
        [{"fused": crossentropy}, PrototypeRebalancing()],
        metrics=["accuracy"],
        combiner="sum",
    )
    update = UpdatePrototypes((X, Y), share=1.0)
    logs = model.fit(X, Y, epochs=30, verbose=0, callbacks=[update]).history
    assert logs["fused_loss"][-1] < logs["fused_loss"][0]
    assert logs["strong_accuracy"][-1] == 1.0


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"share": 0}, ValueError, "`share` must be above 0"),
        ({"share": 2}, ValueError, "`share` must be from 0 to 1"),
        ({"momentum": 1}, ValueError, "`momentum` below 1"),
        ({"momentum": None}, TypeError, "`momentum` must be a non-neg"),
        ({"early_epochs": -1}, ValueError, "`early_epochs` must be a non"),
        ({"early_epochs": 1.5}, TypeError, "`early_epochs` must be a non"),
    ],
)
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        UpdatePrototypes((X, Y), **options)


def test_bad_data_and_models():
    with pytest.raises(ValueError, match="`data` must be a dataset that can b"):
        attached(build(), iter(batches())).on_train_begin()
    plain = keras_mimo.late_fusion({"a": encoder(), "b": encoder()}, CLASSES)
    with pytest.raises(ValueError, match="made by a `PrototypeClassifier`"):
        attached(plain, (X, Y)).on_train_begin()
    with pytest.raises(ValueError, match="needs a functional model"):
        attached(keras.Model(), (X, Y)).on_train_begin()


def test_modalities_still_refuse_other_losses_of_several_outputs():
    model = build()
    model.compile("sgd", [{"fused": "mse"}, "mse"], combiner="sum")
    with pytest.raises(ValueError, match="`loss` must have an entry for each"):
        model.train_on_batch(X, Y)


def test_replicas_which_see_parts_of_a_batch_are_refused():
    model = build()
    assert not model.objectives.across_replicas
    model.compile("sgd", "mse", combiner="sum")
    assert model.objectives.across_replicas
