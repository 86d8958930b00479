import csv

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.callbacks import Relearning
from keras_mimo.callbacks.relearning import purity

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OPTIONS = dict(batch_size=16, shuffle=False, verbose=0)


def data(seed=0):
    """Classes that one input tells apart, and one that tells the sample."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=48)
    clear = np.eye(3)[y] + rng.normal(size=(48, 3)) / 4
    noise = rng.normal(size=(48, 40))
    x = {"clear": clear, "noise": noise}
    return {name: v.astype("float32") for name, v in x.items()}, y


def build(width=8, **arguments):
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [keras.Input((size,)), layers.Dense(width, activation="tanh")]
        )
        for name, size in {"clear": 3, "noise": 40}.items()
    }
    return keras_mimo.late_fusion(encoders, num_classes=3, **arguments)


def compiled():
    model = build()
    model.compile(keras.optimizers.SGD(0.5), LOSS, combiner="sum")
    return model


def numpy(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def encoders(model):
    return {m: numpy(vs) for m, vs in model.encoder_variables.items()}


class Recorder(keras.callbacks.Callback):
    """Keeps the weights of the encoders at the beginning of each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(encoders(self.model))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, with the weights before and after the callback."""
    log = tmp_path_factory.mktemp("run") / "log.csv"
    relearning = Relearning(data(), data(1), every=20, times=1)
    before, after = Recorder(), Recorder()
    model = compiled()
    start = encoders(model)
    callbacks = [before, relearning, after, keras.callbacks.CSVLogger(log)]
    history = model.fit(*data(), epochs=41, callbacks=callbacks, **OPTIONS)
    return relearning, start, before.seen, after.seen, history.history, log


def test_what_memorises_is_moved_back_more(run):
    relearning, start, before, after, _, _ = run
    (moved,) = relearning.history
    assert moved["gaps"]["noise"] > moved["gaps"]["clear"] + 0.1
    shares = {}
    for name, initial in start.items():
        (kernel, _), (trained, _), (again, _) = (
            initial,
            before[20][name],
            after[20][name],
        )
        way = np.linalg.norm(trained - kernel)
        shares[name] = 1 - np.linalg.norm(again - kernel) / way
    assert shares["noise"] > shares["clear"] + 0.1
    for name, share in shares.items():
        np.testing.assert_allclose(share, moved["alphas"][name], atol=1e-5)


def test_encoders_are_moved_when_they_should_and_by_the_formula(run):
    relearning, start, before, after, _, _ = run
    (moved,) = relearning.history
    assert moved["epoch"] == 20
    for name, initial in start.items():
        alpha = moved["alphas"][name]
        np.testing.assert_allclose(alpha, np.tanh(3 * moved["gaps"][name]))
        for epoch in range(41):
            for a, b, zero in zip(
                before[epoch][name], after[epoch][name], initial, strict=True
            ):
                if epoch == 20:
                    expected = (1 - alpha) * a + alpha * zero
                    np.testing.assert_allclose(b, expected, atol=1e-6)
                else:
                    np.testing.assert_array_equal(a, b)


def test_gaps_are_logged_in_every_epoch(run):
    relearning, _, _, _, history, log = run
    with open(log) as file:
        rows = list(csv.DictReader(file))
    for name, gap in relearning.history[0]["gaps"].items():
        expected = [np.nan] * 20 + [gap] * 21
        np.testing.assert_array_equal(history[f"{name}_gap"], expected)
        found = [float(row[f"{name}_gap"]) for row in rows]
        np.testing.assert_allclose(found, expected)


def attached(model, *arguments, **options):
    relearning = Relearning(*arguments, **options)
    relearning.set_model(model)
    relearning.on_train_begin()
    return relearning


def change(model):
    for variables in model.encoder_variables.values():
        for variable in variables:
            variable.assign(2 * variable + 0.25)


def test_without_a_gap_nothing_changes():
    model = build()
    relearning = attached(model, data(), data(), every=2)
    change(model)
    before = numpy(model.variables)
    relearning.on_epoch_begin(2)
    assert relearning.history[0]["gaps"] == {"clear": 0, "noise": 0}
    for a, b in zip(before, numpy(model.variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_epochs():
    relearning = attached(build(), data(), data(), every=2, times=3)
    for epoch in range(12):
        relearning.on_epoch_begin(epoch)
    assert [moved["epoch"] for moved in relearning.history] == [2, 4, 6]


def test_gaps_are_of_purities_of_features():
    model = build()
    (x, y), (x_val, y_val) = data(), data(1)
    one_hot = np.eye(3, dtype="float32")[y]
    # Features and gaps are the same in batches of any size.
    relearning = attached(
        model, (x, one_hot), (x_val, y_val[:, None]), every=1, batch_size=7
    )
    relearning.on_epoch_begin(1)
    for name in ("clear", "noise"):
        encoder = model.get_layer(f"{name}_encoder")
        purities = [
            purity(ops.convert_to_numpy(encoder(x[name])), labels, 3)
            for x, labels in [(x, y), (x_val, y_val)]
        ]
        gap = abs(purities[0] - purities[1])
        np.testing.assert_allclose(relearning.history[0]["gaps"][name], gap)


def test_purity_by_hand():
    features = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [9.3]])
    found = purity(features, np.array([0, 0, 1, 1, 1, 0, 1]), 2)
    np.testing.assert_allclose(found, 5 / 7)
    features = np.repeat(np.eye(3), [2, 3, 4], axis=0)
    found = purity(features, np.array([2, 2, 0, 0, 1, 1, 1, 1, 0]), 3)
    np.testing.assert_allclose(found, 7 / 9)
    # One point has no clusters.
    assert purity(np.ones((4, 2)), np.array([0, 1, 1, 1]), 2) == 0.75


def test_purity_is_of_scaled_features():
    rng = np.random.default_rng(0)
    classes = rng.integers(2, size=60)
    wide = 1000 * rng.uniform(size=60)
    features = np.stack([wide, classes + rng.normal(size=60) / 9], axis=1)
    assert purity(features, classes, 2) > 0.9
    with pytest.raises(ValueError, match="not for 1 of 60 samples"):
        purity(np.where(features == wide.max(), np.nan, 1), classes, 2)


def test_initial_weights_are_those_of_the_file(tmp_path):
    path = tmp_path / "new" / "initial.h5"
    first = build()
    start = encoders(first)
    attached(first, data(), data(1), path=path)
    assert [p.name for p in path.parent.iterdir()] == ["initial.h5"]
    second = build()
    change(second)
    relearning = attached(second, data(), data(1), every=1, path=path)
    for name, values in start.items():
        for a, b in zip(values, relearning._initial[name], strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="`path` must be a new file, or one"):
        attached(build(width=9), data(), data(1), path=path)
    with h5py.File(path, "w") as file:
        file["other"] = 1.0
    with pytest.raises(ValueError, match="`path` must be a new file, or one"):
        attached(build(), data(), data(1), path=path)


def test_initial_weights_stay_in_memory():
    model = build()
    start = encoders(model)
    relearning = attached(model, data(), data(1))
    change(model)
    relearning.on_train_begin()
    for name, values in start.items():
        for a, b in zip(values, relearning._initial[name], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    def fit(model, path, **options):
        relearning = Relearning(data(), data(1), every=2, path=tmp_path / path)
        model.fit(*data(), callbacks=[relearning], **options, **OPTIONS)
        return relearning.history

    whole, first = compiled(), compiled()
    moved = fit(whole, "whole.h5", epochs=6)
    fit(first, "parts.h5", epochs=3)
    first.save(tmp_path / "model.keras")
    second = keras.saving.load_model(tmp_path / "model.keras")
    again = fit(second, "parts.h5", initial_epoch=3, epochs=6)
    assert [m["epoch"] for m in moved] == [2, 4]
    assert [m["epoch"] for m in again] == [4]
    assert again[0]["gaps"] == pytest.approx(moved[1]["gaps"], abs=1e-6)
    for a, b in zip(
        numpy(whole.variables), numpy(second.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        x, y = data()
        return {name: v[rows] for name, v in x.items()}, y[rows]


def as_tf():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(data()).batch(16)


@pytest.mark.parametrize("make", [Sequence, as_tf])
def test_datasets(make):
    model = build()
    gaps = []
    for train in (data(), make()):
        relearning = attached(model, train, data(1), every=1)
        gaps.append(relearning._diagnose())
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-6)


def test_features_of_other_models():
    model = keras_mimo.intermediate_fusion(
        {
            name: keras.Sequential([keras.Input((size,)), layers.Dense(4)])
            for name, size in {"clear": 3, "noise": 40}.items()
        },
        num_classes=3,
    )
    relearning = attached(model, data(), data(1), every=1)
    relearning.on_epoch_begin(1)
    assert set(relearning.history[0]["gaps"]) == {"clear", "noise"}

    inputs = {n: keras.Input((s,), name=n) for n, s in (("clear", 3), ("n", 9))}
    parts = [layers.Dense(4, name=f"to_{n}")(x) for n, x in inputs.items()]
    fused = layers.Dense(3)(layers.Concatenate()(parts))
    model = keras_mimo.add_unimodal_heads(
        keras.Model(inputs, fused), {"clear": "to_clear", "n": "to_n"}
    )
    arrays = {"clear": data()[0]["clear"], "n": data()[0]["noise"][:, :9]}
    train = (arrays, data()[1])
    with pytest.raises(ValueError, match="none of the name 'clear_encoder'"):
        attached(model, train, train)
    relearning = attached(model, train, train, features={"clear": "to_clear"})
    assert set(relearning._diagnose()) == {"clear"}
    with pytest.raises(ValueError, match="must name modalities"):
        attached(model, train, train, features={"image": "to_clear"})


def test_what_can_not_be_diagnosed():
    with pytest.raises(ValueError, match="needs a `MultimodalModel`"):
        attached(keras.Sequential([keras.Input((3,))]), data(), data())
    x, y = data()
    few = ({name: v[:2] for name, v in x.items()}, y[:2])
    relearning = attached(build(), data(), few, every=1)
    with pytest.raises(ValueError, match=r"`validation` must hold as many.*3"):
        relearning.on_epoch_begin(1)
    relearning = attached(build(), (x, y + 0.5), data(), every=1)
    with pytest.raises(ValueError, match="Labels must be integers"):
        relearning.on_epoch_begin(1)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(train=data()[0]), TypeError, "`train` must be a tuple"),
        (dict(every=0), ValueError, "`every` must be a positive integer"),
        (dict(times=1.5), TypeError, "`times` must be a positive integer"),
        (dict(seed=None), TypeError, "`seed` must be a non-negative integer"),
        (dict(strength=-1), ValueError, "`strength` must be a positive"),
        (dict(strength="3"), TypeError, "`strength` must be a positive"),
        (dict(features="clear"), TypeError, "`features` must be a dict"),
        (dict(path="initial.npz"), ValueError, r"`path` must end in `.h5`"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        Relearning(**{"train": data(), "validation": data(1), **arguments})
