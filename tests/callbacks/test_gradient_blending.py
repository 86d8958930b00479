import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.callbacks import GradientBlending
from keras_mimo.callbacks import gradient_blending

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OPTIONS = dict(batch_size=16, shuffle=False, verbose=0)
NAMES = ["fused", "clear", "noise"]


def data(seed=0):
    """Classes that one input tells apart, and one that tells the sample."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=48)
    clear = np.eye(3)[y] + rng.normal(size=(48, 3)) / 4
    noise = rng.normal(size=(48, 24))
    x = {"clear": clear, "noise": noise}
    return {name: v.astype("float32") for name, v in x.items()}, y


def build(*extra):
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential(
            [
                keras.Input((width,)),
                layers.Dense(16, activation="tanh"),
                *[layer() for layer in extra],
            ]
        )
        for name, width in {"clear": 3, "noise": 24}.items()
    }
    return keras_mimo.late_fusion(encoders, num_classes=3)


def compiled(*extra, optimizer=None, combiner="gblending"):
    model = build(*extra)
    optimizer = optimizer or keras.optimizers.SGD(0.5)
    model.compile(optimizer, LOSS, metrics=["accuracy"], combiner=combiner)
    return model


def numpy(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def state(model):
    return numpy([*model.variables, *model.optimizer.variables])


def assert_same_state(a, b):
    for first, second in zip(state(a), state(b), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def run():
    """A run, its callback, and its history."""
    blending = GradientBlending(
        data(), data(1), super_epoch=2, epochs=3, batch_size=16
    )
    model = compiled()
    history = model.fit(*data(), epochs=3, callbacks=[blending], **OPTIONS)
    return model, blending, history.history


def test_what_overfits_has_less_weight(run):
    _, blending, _ = run
    for measured in blending.history:
        weights = dict(zip(NAMES, measured["weights"], strict=True))
        assert weights["clear"] > 5 * weights["noise"]
        np.testing.assert_allclose(sum(weights.values()), 1, rtol=1e-6)


def test_weights_are_measured_and_used_when_they_should(run):
    model, blending, history = run
    assert [measured["epoch"] for measured in blending.history] == [0, 2]
    first, second = (measured["weights"] for measured in blending.history)
    assert not np.allclose(first, second)
    for k, name in enumerate(NAMES):
        np.testing.assert_allclose(
            history[f"{name}_weight"], [first[k], first[k], second[k]], 1e-5
        )
    blend = ops.convert_to_numpy(model.combiner.blend)
    np.testing.assert_allclose(blend, second, rtol=1e-6)


def test_an_objective_is_trained_alone(run):
    """As its network would be, on the batches that the callback draws."""
    _, blending, _ = run
    measured = blending.history[0]
    (x, y), validation = data(), data(1)
    for k, name in list(enumerate(NAMES))[1:]:
        whole = build()
        model = keras.Model(whole.input[name], whole.output[name])
        model.compile(keras.optimizers.SGD(0.5), LOSS)

        def losses(model=model, name=name):
            found = []
            for x, y in [data(), validation]:
                # As Keras 3.12 does not.
                model.reset_metrics()
                found.append(model.test_on_batch(x[name], y))
            return found

        before = losses()
        rng = np.random.default_rng([0, 0, k])
        for _ in range(3):
            order = rng.permutation(48)
            for rows in np.split(order, 3):
                model.train_on_batch(x[name][rows], y[rows])
        for found, expected in zip(
            [measured["train_before"][k], measured["val_before"][k]],
            before,
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        for found, expected in zip(
            [measured["train_after"][k], measured["val_after"][k]],
            losses(),
            strict=True,
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def keep_weights(model, monkeypatch):
    """Measured weights are those that the combiner has."""

    def current(**measured):
        assert all(np.isfinite(losses).all() for losses in measured.values())
        return numpy([model.combiner.blend])[0]

    monkeypatch.setattr(gradient_blending, "blending_weights", current)


def test_a_measurement_leaves_no_trace(monkeypatch):
    """Random layers, moving statistics, Adam, and shuffling go on as if."""
    validation = data(1)
    runs = []
    for measured in (False, True):
        model = compiled(
            layers.BatchNormalization,
            lambda: layers.Dropout(0.3),
            optimizer=keras.optimizers.Adam(0.01),
        )
        blending = GradientBlending(
            data(), validation, super_epoch=2, epochs=1, batch_size=16
        )
        keep_weights(model, monkeypatch)
        keras.utils.set_random_seed(1)
        history = model.fit(
            *data(),
            epochs=3,
            validation_data=validation,
            callbacks=[blending] if measured else [],
            batch_size=16,
            verbose=0,
        )
        assert len(blending.history) == 2 * measured
        runs.append((model, history.history))
    (plain, logs), (blended, blended_logs) = runs
    assert_same_state(plain, blended)
    assert logs == blended_logs


@pytest.mark.slow
def test_an_error_leaves_no_trace():
    model = compiled()
    blending = GradientBlending(data(), data(1), batch_size=16)
    blending.set_model(model)
    model.train_on_batch(*data())
    before = state(model)
    calls = []

    def failing(*batch, **options):
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return type(model).train_on_batch(model, *batch, **options)

    model.train_on_batch = failing
    with pytest.raises(KeyboardInterrupt):
        blending.on_epoch_begin(0)
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_offline_is_once():
    blending = GradientBlending(
        data(), data(1), super_epoch=1, epochs=1, mode="offline", batch_size=16
    )
    model = compiled()
    model.fit(*data(), epochs=3, callbacks=[blending], **OPTIONS)
    model.fit(
        *data(), initial_epoch=3, epochs=4, callbacks=[blending], **OPTIONS
    )
    assert [measured["epoch"] for measured in blending.history] == [0]


@pytest.mark.slow
def test_a_resumed_run_is_the_same(tmp_path):
    def fit(model, **options):
        blending = GradientBlending(
            data(), data(1), super_epoch=3, epochs=1, batch_size=16
        )
        model.fit(*data(), callbacks=[blending], **options, **OPTIONS)
        return blending.history

    def new():
        # Without a seed PyTorch keeps the state, where no file has it.
        return compiled(lambda: layers.Dropout(0.3, seed=1), optimizer="adam")

    whole, first = new(), new()
    measured = fit(whole, epochs=5)
    fit(first, epochs=2)
    first.save(tmp_path / "model.keras")
    second = keras.saving.load_model(tmp_path / "model.keras")
    again = fit(second, initial_epoch=2, epochs=5)
    assert [m["epoch"] for m in measured] == [0, 3]
    assert [m["epoch"] for m in again] == [3]
    np.testing.assert_allclose(
        again[0]["weights"], measured[1]["weights"], rtol=1e-5
    )
    for a, b in zip(state(whole), state(second), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(16 * index, 16 * index + 16)
        return {n: v[rows] for n, v in self.x.items()}, self.y[rows]


def as_list(x, y):
    sequence = Sequence(x, y)
    return [sequence[k] for k in range(3)]


def as_tf(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Sequence, as_tf])
def test_datasets(form):
    found = []
    for make in (as_list, form):
        train, validation = make(*data()), make(*data(1))
        blending = GradientBlending(train, validation, epochs=1)
        compiled().fit(
            Sequence(*data()), shuffle=False, verbose=0, callbacks=[blending]
        )
        found.append(blending.history[0])
    expected, measured = found
    for name in ("train_before", "val_before", "train_after", "val_after"):
        np.testing.assert_allclose(measured[name], expected[name], rtol=1e-5)


class Endless(Sequence):
    @property
    def num_batches(self):
        return None


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(train=3), TypeError, "`train` must be a tuple"),
        (dict(train=data()[1]), TypeError, "`train` must be a tuple"),
        (dict(validation=data()[:1]), ValueError, "`validation` must hold lab"),
        (dict(train=(data()[0], data()[1][:9])), ValueError, r"\[9, 48\]"),
        (dict(train=iter([data()])), ValueError, "`train` must come to an end"),
        (dict(train=Endless(*data())), ValueError, "must come to an end"),
        (dict(mode="both"), ValueError, r"`mode` must be one of.*'both'"),
        (dict(epochs=0), ValueError, "`epochs` must be a positive integer"),
        (dict(super_epoch=2.5), TypeError, "`super_epoch` must be a positive"),
        (dict(batch_size=0), ValueError, "`batch_size` must be a positive"),
        (dict(seed=-1), ValueError, "`seed` must be a non-negative integer"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        GradientBlending(
            **{"train": data(), "validation": data(1), **arguments}
        )


def test_another_combiner_is_refused():
    model = compiled(combiner="sum")
    with pytest.raises(ValueError, match='combiner="gblending"'):
        model.fit(*data(), callbacks=[GradientBlending(data(), data(1))])
