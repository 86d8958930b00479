import csv

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.callbacks import BalanceMonitor
from keras_mimo.callbacks.kept_batches import kept_batches

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OPTIONS = dict(batch_size=16, epochs=2, verbose=0)
MODALITIES = ("audio", "image")


def data(n=48):
    rng = np.random.default_rng(0)
    x = {m: rng.normal(size=(n, 4)).astype("float32") for m in MODALITIES}
    return x, rng.integers(3, size=n)


class Counter(layers.Layer):
    """Counts its calls, in inference too."""

    def build(self, input_shape):
        self.calls = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="calls"
        )

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs


def late(combiner=None, **arguments):
    """With dropout, statistics, other losses, and what counts its calls."""
    keras.utils.set_random_seed(0)
    encoders = {
        m: keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(5, use_bias=False, activity_regularizer="l2"),
                layers.BatchNormalization(),
                layers.Activation("tanh"),
                layers.Dropout(0.5),
                Counter(),
            ]
        )
        for m in MODALITIES
    }
    model = keras_mimo.late_fusion(encoders, num_classes=3)
    model.compile(
        keras.optimizers.Adam(0.01),
        LOSS,
        metrics=["accuracy"],
        combiner=combiner,
        **arguments,
    )
    return model


def two_tasks(optimizer="sgd", combiner="sum"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(5, activation="tanh", name="trunk")(inputs)
    outputs = {
        "depth": layers.Dense(1, name="depth")(shared),
        "label": layers.Dense(3, name="label")(shared),
    }
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        optimizer,
        loss={"depth": "mse", "label": LOSS},
        loss_weights={"depth": 3.0, "label": 1.0},
        combiner=combiner,
    )
    return model


def trained(combiner, callbacks, fits=1):
    """A model, and the logs of its last `fit()`."""
    x, y = data()
    model = late(combiner)
    options = dict(OPTIONS, validation_data=data(16), callbacks=callbacks)
    for _ in range(fits):
        history = model.fit(x, y, **options).history
    return model, history


@pytest.fixture(scope="module")
def watched():
    """A model that was trained with a monitor, and what was logged."""
    monitor = BalanceMonitor(batches=3, data=data(), batch_size=16)
    model, history = trained("mgda", [monitor])
    return model, monitor, history


def forward(x, w):
    """Logits of an encoder and its head by hand, statistics as they are."""
    z = x @ w["kernel"]
    z = (z - w["mean"]) / np.sqrt(w["variance"] + 1e-3)
    return np.tanh(w["gamma"] * z + w["beta"])


def by_hand(model, x, y):
    """Gradients of the mean losses, by the chain rule in float64.

    Returns:
        For each block, dict from objectives to flat gradients.
    """
    weights, features = {}, {}
    for m in MODALITIES:
        encoder = model.get_layer(f"{m}_encoder")
        names = ("kernel", "gamma", "beta", "mean", "variance")
        values = [w.astype("float64") for w in encoder.get_weights()]
        weights[m] = dict(zip(names, values, strict=False))
        features[m] = forward(x[m].astype("float64"), weights[m])
    heads = {}
    for m in MODALITIES:
        kernel, bias = next(
            layer.get_weights()
            for layer in model.layers
            if isinstance(layer, layers.Dense) and layer.name.startswith(m)
        )
        heads[m] = kernel.astype("float64"), bias
    logits = {m: features[m] @ heads[m][0] + heads[m][1] for m in MODALITIES}
    logits["fused"] = sum(logits.values())
    hot = np.eye(3)[y]
    found = {m: {} for m in (*MODALITIES, "shared")}
    for objective in ("fused", *MODALITIES):
        z = logits[objective]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        error = (p - hot) / len(y)
        shared = []
        for m in MODALITIES:
            w, h, kernel = weights[m], features[m], heads[m][0]
            own = error if objective in ("fused", m) else 0 * error
            shared += [h.T @ own, own.sum(axis=0)]
            inner = (own @ kernel.T) * (1 - h**2)
            scale = np.sqrt(w["variance"] + 1e-3)
            z_norm = (x[m] @ w["kernel"] - w["mean"]) / scale
            parts = [
                x[m].T @ (inner * w["gamma"] / scale),
                (inner * z_norm).sum(axis=0),
                inner.sum(axis=0),
            ]
            if objective in ("fused", m):
                found[m][objective] = np.concatenate([p.ravel() for p in parts])
        found["shared"][objective] = np.concatenate([p.ravel() for p in shared])
    return found


def test_gradients_are_those_by_hand(watched):
    """Of all 48 rows: three batches of the same size have their mean."""
    model, _, history = watched
    for block, rows in by_hand(model, *data()).items():
        for name, row in rows.items():
            logged = history[f"balance/length/{block}/{name}"][-1]
            np.testing.assert_allclose(logged, np.linalg.norm(row), rtol=1e-4)
        names = list(rows)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                u, v = rows[a], rows[b]
                cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
                logged = history[f"balance/cosine/{block}/{a}/{b}"][-1]
                np.testing.assert_allclose(logged, cosine, atol=1e-4)


def test_what_does_not_depend_on_an_encoder_is_left_out(watched):
    _, _, history = watched
    lengths = [n for n in history if n.startswith("balance/length/")]
    assert len(lengths) == 2 + 2 + 3
    assert "balance/length/audio/image" not in history
    assert not any(n.startswith("balance/cosine/audio/audio") for n in history)


def test_the_gap_is_that_of_the_logs(watched):
    _, _, history = watched
    for name in ("fused", *MODALITIES):
        expected = np.subtract(
            history[f"val_{name}_loss"], history[f"{name}_loss"]
        )
        np.testing.assert_array_equal(history[f"balance/gap/{name}"], expected)


def test_history_and_cosines(watched):
    _, monitor, history = watched
    assert monitor.history["epoch"] == [0, 1]
    for name, values in monitor.history.items():
        if name != "epoch":
            np.testing.assert_allclose(values, history[name])
    assert "audio_weight" in monitor.history
    cosines, names = monitor.cosines("audio")
    assert names == ["fused", "audio"]
    logged = history["balance/cosine/audio/fused/audio"][-1]
    np.testing.assert_allclose(cosines, [[1, logged], [logged, 1]])
    with pytest.raises(ValueError, match="'audio', 'image', 'shared'"):
        monitor.cosines("sound")


def test_plot(watched, tmp_path):
    _, monitor, _ = watched
    figure = monitor.plot(tmp_path / "balance.png")
    assert (tmp_path / "balance.png").stat().st_size > 10_000
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == 2 * [
        "Encoder of audio",
        "Encoder of image",
        "Shared variables",
    ] + ["Generalisation gap", "Weights"]
    with pytest.raises(ValueError, match="before the end of the first epoch"):
        BalanceMonitor().plot()


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [ops.convert_to_numpy(v).copy() for v in variables]


def assert_same(monitored, plain):
    (model, logs), (other, other_logs) = monitored, plain
    for a, b in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, values in other_logs.items():
        np.testing.assert_array_equal(logs[name], values)


def test_training_is_the_same_without_it(watched):
    model, _, history = watched
    assert_same((model, history), trained("mgda", []))


@pytest.mark.slow
@pytest.mark.parametrize(
    "combiner", [None, "mimo", "gradvac", "famo", "uncertainty", "graddrop"]
)
def test_training_by_any_combiner_is_the_same(combiner):
    """And goes on to be."""
    monitored = trained(combiner, [BalanceMonitor(batches=2)], fits=2)
    assert_same(monitored, trained(combiner, [], fits=2))


@pytest.mark.slow
def test_nothing_changes_but_the_logs():
    """Metrics too, and what layers, combiner and modulation keep."""
    x, y = data()
    model = late("mimo", modulation="ogm")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            metrics = self.model.metrics_variables
            kept = [ops.convert_to_numpy(v).copy() for v in metrics]
            seen.append((state(self.model) + kept, np.random.get_state()[2]))

    callbacks = [Look(), BalanceMonitor(), Look()]
    model.fit(x, y, **{**OPTIONS, "epochs": 1}, callbacks=callbacks)
    (before, place), (after, other) = seen
    assert place == other
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_columns_are_those_of_the_first_epoch(tmp_path):
    x, y = data(32)
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    monitor = BalanceMonitor(every=2)
    options = {**OPTIONS, "epochs": 4}
    late().fit(x, y, callbacks=[monitor, logger], **options)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    lengths = [float(row["balance/length/audio/fused"]) for row in rows]
    assert list(np.isfinite(lengths)) == [True, False, True, False]
    # There was no validation.
    assert {row["balance/gap/audio"] for row in rows} == {"nan"}
    # Joint training descends the fused loss alone.
    assert monitor.history["fused_weight"] == [1.0] * 4
    assert monitor.history["audio_weight"] == [0.0] * 4


@pytest.mark.slow
def test_epochs_are_counted_from_the_first():
    x, y = data(32)
    monitor = BalanceMonitor(every=2)
    options = {**OPTIONS, "initial_epoch": 3, "epochs": 5}
    late().fit(x, y, callbacks=[monitor], **options)
    lengths = monitor.history["balance/length/audio/fused"]
    assert list(np.isfinite(lengths)) == [True, False]
    assert monitor.history["epoch"] == [3, 4]


@pytest.mark.slow
def test_tensorboard_shows_one_group(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.importorskip("tensorflow")
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    x, y = data(32)
    board = keras.callbacks.TensorBoard(tmp_path)
    late().fit(x, y, callbacks=[BalanceMonitor(), board], **OPTIONS)
    events = EventAccumulator(str(tmp_path / "train"))
    events.Reload()
    tags = events.Tags()
    names = tags["scalars"] + tags["tensors"]
    assert "epoch_balance/length/audio/fused" in names
    # It groups by what comes before the first slash.
    groups = {name.split("/")[0] for name in names if "balance" in name}
    assert groups == {"epoch_balance"}


def dense_gradients(x, error):
    return np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)])


@pytest.mark.slow
@pytest.mark.parametrize("scaled", [False, True])
def test_two_tasks_with_weights_of_losses_and_samples(scaled):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    y = {"depth": rng.normal(size=(24, 1)), "label": rng.integers(3, size=24)}
    weight = rng.uniform(0, 2, size=24).astype("float32")
    optimizer = keras.optimizers.SGD(0.1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = two_tasks(optimizer)
    sample_weight = {"depth": weight, "label": np.ones(24, "float32")}
    given = (x, y, sample_weight)
    monitor = BalanceMonitor(batches=1, data=given, batch_size=24)
    options = {**OPTIONS, "epochs": 1, "callbacks": [monitor]}
    model.fit(x, y, sample_weight=sample_weight, **options)

    trunk, depth, label = (
        [w.astype("float64") for w in model.get_layer(name).get_weights()]
        for name in ("trunk", "depth", "label")
    )
    h = np.tanh(x @ trunk[0] + trunk[1])
    error = 3 * 2 * (h @ depth[0] + depth[1] - y["depth"])
    error *= weight[:, None] / weight.sum()
    z = np.exp(h @ label[0] + label[1])
    other = z / z.sum(axis=1, keepdims=True) - np.eye(3)[y["label"]]
    u = dense_gradients(x, (error @ depth[0].T) * (1 - h**2))
    v = dense_gradients(x, (other / 24 @ label[0].T) * (1 - h**2))
    # Heads, of which an objective has one to itself, are not shared.
    cosines, names = monitor.cosines()
    assert names == ["depth", "label"]
    cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    np.testing.assert_allclose(cosines[0, 1], cosine, atol=1e-4)
    length = monitor.history["balance/length/shared/label"][0]
    np.testing.assert_allclose(length, np.linalg.norm(v), rtol=1e-4)


@pytest.mark.slow
def test_groups_that_batches_lack():
    """The mean is over the batches that have a sample of the group."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    y = np.repeat([0, 1], 16)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras_mimo.BalancedModel(inputs, layers.Dense(3)(inputs))
    groups = {"a": [0], "b": [1], "none": [2]}
    model.compile(
        "sgd",
        LOSS,
        objectives=keras_mimo.ClassGroups(groups),
        combiner=keras_mimo.SumCombiner(),
    )
    batches = [(x[:16], y[:16]), (x[16:], y[16:])]
    monitor = BalanceMonitor(data=batches)
    model.fit(x, y, **{**OPTIONS, "epochs": 1}, callbacks=[monitor])
    kernel, bias = model.get_weights()
    z = np.exp((x @ kernel + bias).astype("float64"))
    error = (z / z.sum(axis=1, keepdims=True) - np.eye(3)[y]) / 16
    for name, rows in {"a": slice(0, 16), "b": slice(16, 32)}.items():
        expected = np.linalg.norm(dense_gradients(x[rows], error[rows]))
        length = monitor.history[f"balance/length/shared/{name}"][0]
        np.testing.assert_allclose(length, expected, rtol=1e-4)
    assert np.isnan(monitor.history["balance/length/shared/none"]).all()
    assert monitor.cosines()[1] == ["a", "b"]


@pytest.mark.slow
def test_a_loss_that_changes_is_seen():
    """`DeferredReweighting` changes it in the middle of training."""
    x, y = data(32)
    model = late("sum")
    counts = np.bincount(y, minlength=3) * [1, 10, 100]
    model.compile("sgd", keras_mimo.losses.LDAM(counts), combiner="sum")
    model.optimizer.learning_rate = 0.0
    reweight = keras_mimo.callbacks.DeferredReweighting(start=1)
    monitor = BalanceMonitor()
    model.fit(x, y, **OPTIONS, callbacks=[reweight, monitor])
    before, after = monitor.history["balance/length/audio/audio"]
    assert abs(after - before) > 0.1 * before


class Sequence(keras.utils.PyDataset):
    """Draws from NumPy's own generator, as augmentation does."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        x, y = data(16)
        noise = np.random.normal(size=(16, 4))
        return {m: x[m] + noise.astype("float32") for m in x}, y


def test_batches_of_datasets():
    keras.utils.set_random_seed(0)
    place = np.random.get_state()
    batches = kept_batches(Sequence(), 5, 1)
    assert len(batches) == 2
    np.testing.assert_array_equal(np.random.get_state()[1], place[1])
    assert np.random.get_state()[2] == place[2]
    kept = kept_batches([data(16), data(8)], 1, 32)
    assert [len(y) for _, y, _ in kept] == [16]


def test_batches_of_arrays():
    """All of the same size, and from everywhere."""
    x = np.arange(100.0)
    found = kept_batches((x, x.astype(int), x), 3, 40)
    assert [len(y) for _, y, _ in found] == [40, 40]
    for x_batch, y, sample_weight in found:
        np.testing.assert_array_equal(x_batch, y)
        np.testing.assert_array_equal(sample_weight, y)
        assert y.min() < 10 and y.max() > 90
    assert len({*found[0][1], *found[1][1]}) == 80
    assert [len(y) for _, y, _ in kept_batches((x, x), 4, 128)] == [100]
    again = kept_batches((x, x), 3, 40)
    np.testing.assert_array_equal(again[1][0], found[1][0])


@pytest.mark.slow
def test_a_data_loader_draws_and_nobody_notices():
    torch = pytest.importorskip("torch")
    dataset = torch.utils.data.TensorDataset(torch.arange(8), torch.arange(8))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)
    before = torch.get_rng_state()
    assert len(kept_batches(loader, 1, 32)) == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_tensorflow_dataset():
    tf = pytest.importorskip("tensorflow")
    x, y = data(16)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    monitor = BalanceMonitor(data=dataset)
    model = late()
    model.fit(x, y, **{**OPTIONS, "epochs": 1}, callbacks=[monitor])
    logged = monitor.history["balance/length/audio/fused"][-1]
    row = by_hand(model, x, y)["audio"]["fused"]
    np.testing.assert_allclose(logged, np.linalg.norm(row), rtol=1e-4)


def kept(model, *arguments, **options):
    monitor = BalanceMonitor(batches=1, batch_size=100)
    options = {**OPTIONS, "epochs": 1, "callbacks": [monitor], **options}
    model.fit(*arguments, **options)
    ((_, labels, _),) = monitor._kept
    return sorted(labels)


@pytest.mark.slow
def test_data_of_fit():
    x, y = data(20)
    assert kept(late(), x, y) == sorted(y)
    held_out = data(10)
    found = kept(late(), x, y, validation_data=held_out)
    assert found == sorted(held_out[1])
    found = kept(late(), x, y, validation_split=0.25)
    assert found == sorted(y[15:])
    with pytest.raises(ValueError, match="`data` must be given"):
        kept(late(), Sequence())


def test_errors():
    for name in ("every", "batches", "batch_size"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
            BalanceMonitor(**{name: 0})
    x, y = data(16)
    for given, error, message in (
        (iter([(x, y)]), ValueError, "readable again"),
        ([], ValueError, "at least one batch"),
        ((x,), ValueError, "must hold labels"),
        ((x, y[:3]), ValueError, "as many samples"),
        (x, TypeError, "of arrays, or a dataset"),
        (3, TypeError, "of arrays, or a dataset"),
    ):
        with pytest.raises(error, match=message):
            kept_batches(given, 1, 8)


def test_models_without_objectives():
    x, y = data(16)
    options = {**OPTIONS, "callbacks": [BalanceMonitor()]}
    labels = {"depth": np.ones((16, 1)), "label": y}
    with pytest.raises(ValueError, match="compiled with a combiner"):
        two_tasks(combiner=None).fit(x["audio"], labels, **options)


@pytest.mark.slow
def test_one_objective():
    x, y = data(16)
    options = {**OPTIONS, "callbacks": [BalanceMonitor()]}
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    model = keras_mimo.BalancedModel(inputs, layers.Dense(3)(inputs))
    combiner = keras_mimo.ConstantCombiner([1.0])
    model.compile("sgd", LOSS, combiner=combiner)
    with pytest.raises(ValueError, match="several objectives"):
        model.fit(x["audio"], y, **options)


class OwnLoss(keras_mimo.BalancedModel):
    def compute_loss(self, *arguments, **options):
        return 2 * super().compute_loss(*arguments, **options)


def test_own_loss_is_refused():
    x, y = data(16)
    inputs = keras.Input((4,))
    outputs = {"a": layers.Dense(3)(inputs), "b": layers.Dense(3)(inputs)}
    model = OwnLoss(inputs, outputs)
    model.compile("sgd", LOSS, combiner="sum")
    with pytest.raises(ValueError, match="user's own"):
        model.fit(
            x["audio"],
            {"a": y, "b": y},
            callbacks=[BalanceMonitor()],
            **OPTIONS,
        )
