import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.objectives import ClassGroups
from keras_mimo.objectives import Modalities

GROUPS = {"head": [0, 1], "tail": [2, 3, 4]}
CLASSES = 5
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OPTIONS = dict(batch_size=8, shuffle=False, verbose=0)


def data(rows=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, rng.choice(CLASSES, size=rows, p=[0.4, 0.3, 0.15, 0.1, 0.05])


def functional(units=CLASSES):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="tanh", name="backbone")(inputs)
    x = layers.Dense(units, name="classifier")(x)
    return keras_mimo.BalancedModel(inputs, x)


def compiled(
    objectives=None, combiner=None, loss=LOSS, units=CLASSES, **arguments
):
    model = functional(units)
    model.compile(
        keras.optimizers.SGD(1.0),
        loss,
        objectives=objectives or ClassGroups(GROUPS),
        combiner=combiner or keras_mimo.MeanCombiner(),
        **arguments,
    )
    return model


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def step(model, x, y, **arguments):
    """The change of the weights in a step, and the logs."""
    before = [numpy(v) for v in model.trainable_variables]
    logs = model.train_on_batch(x, y, return_dict=True, **arguments)
    after = [numpy(v) for v in model.trainable_variables]
    return [a - b for a, b in zip(before, after, strict=True)], logs


def plain_step(x, y, loss=LOSS, units=CLASSES, **arguments):
    """A step of plain Keras on some samples alone."""
    base = functional(units)
    model = keras.Model(base.inputs, base.outputs)
    model.compile(keras.optimizers.SGD(1.0), loss)
    return step(model, x, y, **arguments)


def assert_close(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("kind", ["sparse", "column", "one_hot"])
def test_losses_and_gradients_are_those_of_hand_split_batches(kind):
    x, y = data()
    labels = {
        "sparse": y,
        "column": y[:, None],
        "one_hot": np.eye(CLASSES, dtype="float32")[y],
    }[kind]
    loss = LOSS
    if kind == "one_hot":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    found = {}
    for name in GROUPS:
        weights = keras_mimo.ConstantCombiner({name: 1.0})
        found[name] = step(compiled(combiner=weights, loss=loss), x, labels)
    for name, classes in GROUPS.items():
        mine = np.isin(y, classes)
        expected, logs = plain_step(x[mine], labels[mine], loss)
        assert_close(found[name][0], expected)
        assert found[name][1][f"{name}_loss"] == pytest.approx(
            logs["loss"], rel=1e-5
        )


def test_a_gramian_combiner_sees_the_gradients_of_the_groups():
    x, y = data()
    rows = []
    for classes in GROUPS.values():
        mine = np.isin(y, classes)
        gradient, _ = plain_step(x[mine], y[mine])
        rows.append(np.concatenate([g.ravel() for g in gradient[:2]]))
    model = compiled(
        combiner=keras_mimo.MGDACombiner(),
        balanced_variables=lambda v: "backbone" in v.path,
    )
    _, logs = step(model, x, y)
    (a, b), difference = rows, rows[0] - rows[1]
    share = np.clip(b @ (b - a) / (difference @ difference), 0, 1)
    assert logs["head_weight"] == pytest.approx(share, abs=1e-5)
    assert logs["tail_weight"] == pytest.approx(1 - share, abs=1e-5)


@pytest.mark.parametrize("combiner", ["mean", "mgda"])
def test_an_absent_group_is_inactive(combiner):
    x, y = data()
    head = np.isin(y, GROUPS["head"])
    found, logs = step(compiled(combiner=combiner), x[head], y[head])
    assert_close(found, plain_step(x[head], y[head])[0])
    assert logs["tail_weight"] == 0
    assert logs["head_weight"] == 1


def test_sample_weights_scale_the_losses_and_0_is_absent():
    x, y = data()
    weights = np.where(np.isin(y, GROUPS["tail"]), 0.0, 2.0).astype("float32")
    first = np.flatnonzero(np.isin(y, GROUPS["head"]))[0]
    weights[first] = 0
    found, logs = step(compiled(), x, y, sample_weight=weights)
    kept = weights > 0
    expected, _ = plain_step(x[kept], y[kept], sample_weight=weights[kept])
    assert_close(found, expected)
    assert logs["tail_weight"] == 0


def test_multi_label_samples_are_in_each_of_their_groups():
    x, _ = data()
    y = (np.random.default_rng(1).uniform(size=(32, CLASSES)) < 0.2) * 1.0
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    for name, classes in GROUPS.items():
        weights = keras_mimo.ConstantCombiner({name: 1.0})
        found, _ = step(compiled(combiner=weights, loss=loss), x, y)
        mine = y[:, classes].any(axis=1)
        assert 0 < mine.sum() < 32
        assert_close(found, plain_step(x[mine], y[mine], loss)[0])


def test_labels_per_position_with_a_mask():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, size=(8, 6))
    y = rng.integers(CLASSES, size=(8, 6))
    steps = {}
    for balanced in (True, False):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,), dtype="int32")
        z = layers.Embedding(9, 5, mask_zero=True)(inputs)
        z = layers.Dense(CLASSES)(z)
        cls = keras_mimo.BalancedModel if balanced else keras.Model
        model = cls(inputs, z)
        options = {}
        if balanced:
            options["objectives"] = ClassGroups([[0, 1, 2, 3, 4]])
            options["combiner"] = keras_mimo.SumCombiner()
        model.compile(
            keras.optimizers.SGD(1.0),
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, reduction="mean_with_sample_weight"
            ),
            **options,
        )
        steps[balanced], _ = step(model, tokens, y)
    assert_close(steps[True], steps[False])


def test_modalities_within_the_groups():
    rng = np.random.default_rng(0)
    x = {
        n: rng.normal(size=(32, 3)).astype("float32")
        for n in ("sound", "image")
    }
    y = rng.integers(CLASSES, size=32)
    keras.utils.set_random_seed(0)
    encoders = {
        name: keras.Sequential([keras.Input((3,)), layers.Dense(4)])
        for name in x
    }
    model = keras_mimo.late_fusion(encoders, num_classes=CLASSES)
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSS,
        metrics=["accuracy"],
        objectives=ClassGroups(GROUPS, within=Modalities()),
        combiner="upgrad",
    )
    logs = model.fit(x, y, epochs=2, **OPTIONS).history
    pairs = [
        f"{output}_{group}"
        for output in ("fused", "sound", "image")
        for group in GROUPS
    ]
    assert set(model.objectives.names) == set(pairs)
    for pair in pairs:
        assert logs[f"{pair}_loss"][1] < 1.2 * logs[f"{pair}_loss"][0]
        assert logs[f"{pair}_weight"][0] > 0
    assert {"fused_accuracy", "sound_accuracy", "sound_loss"} <= set(logs)


def test_epoch_losses_are_means_over_samples():
    x, y = data()
    model = compiled()
    model.optimizer.learning_rate = 0.0
    history = model.fit(x, y, **OPTIONS).history
    for name, classes in GROUPS.items():
        mine = np.isin(y, classes)
        expected = model.evaluate(x[mine], y[mine], verbose=0, return_dict=True)
        assert history[f"{name}_loss"][0] == pytest.approx(
            expected[f"{name}_loss"], rel=1e-5
        )


def test_before_the_groups_are_known_training_is_plain():
    x, y = data()
    found, logs = step(
        compiled(ClassGroups(num_groups=3), keras_mimo.MGDACombiner()), x, y
    )
    assert_close(found, plain_step(x, y)[0])
    assert logs["group_0_weight"] == 1
    assert logs["group_1_weight"] == logs["group_2_weight"] == 0


def test_groups_change_without_compiling_anew_and_are_saved(tmp_path):
    x, y = data()
    model = compiled(ClassGroups(num_groups=2))
    model.fit(x, y, **OPTIONS)
    traced = model.train_function
    model.objectives.assign_groups(list(GROUPS.values()))
    history = model.fit(x, y, **OPTIONS).history
    assert model.train_function is traced
    assert history["group_1_weight"][0] > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.objectives.groups == list(GROUPS.values())
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = compiled(ClassGroups(num_groups=2, num_classes=CLASSES))
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert fresh.objectives.groups == list(GROUPS.values())
    for each in (model, loaded):
        each.fit(x, y, **OPTIONS)
    assert_close(
        [numpy(v) for v in model.variables],
        [numpy(v) for v in loaded.variables],
    )


def test_the_method_is_saved():
    for method in ("ward", "released"):
        config = ClassGroups(num_groups=2, method=method).get_config()
        assert ClassGroups.from_config(config).method == method
    assert ClassGroups().method == keras_mimo.gbg()["objectives"].method
    assert ClassGroups().method == "ward"


def test_a_probability_is_of_two_classes():
    x, y = data()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    objective = ClassGroups([[0], [1]])
    weights = keras_mimo.ConstantCombiner([0.0, 1.0])
    labels = (y > 1).astype("int32")
    model = compiled(objective, weights, loss=loss, units=1)
    found, _ = step(model, x, labels[:, None])
    mine = labels == 1
    expected, _ = plain_step(x[mine], labels[mine][:, None], loss, units=1)
    assert_close(found, expected)


@pytest.mark.parametrize("labels", [[0, 1, 5], [-1, 0, 1]])
def test_labels_out_of_range(labels):
    x, _ = data()
    with pytest.raises(
        ValueError, match="Labels must be class ids from 0 to 4"
    ):
        compiled().fit(x[:3], np.array(labels), verbose=0)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: ClassGroups(3), TypeError, "groups=3"),
        (lambda: ClassGroups(num_groups=0), ValueError, "num_groups=0"),
        (lambda: ClassGroups(num_classes=2.5), ValueError, "num_classes=2.5"),
        (lambda: ClassGroups([[0]], num_groups=2), ValueError, "num_groups=2"),
        (lambda: ClassGroups(within="x"), TypeError, "within=x"),
        (lambda: ClassGroups(method="x"), ValueError, "method='x'"),
        (
            lambda: ClassGroups([[0], [2]], num_classes=3),
            ValueError,
            r"\[1\] are missing",
        ),
        (
            lambda: ClassGroups([[0, 1], [1, 7]], num_classes=2),
            ValueError,
            r"\[7\] are no classes and \[1\] are there more",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_groups_need_a_combiner():
    with pytest.raises(ValueError, match="needs a combiner"):
        functional().compile("sgd", LOSS, objectives=ClassGroups(GROUPS))


class _Scaled(keras.losses.Loss):
    """A user's loss without `get_config()`, which Keras trains as well."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def call(self, y_true, y_pred):
        return self.scale * keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )


def test_a_loss_without_config_is_used_as_any_other():
    x, y = data()
    model = compiled(
        ClassGroups([list(range(CLASSES))]),
        keras_mimo.SumCombiner(),
        _Scaled(3.0),
    )
    assert_close(step(model, x, y)[0], plain_step(x, y, _Scaled(3.0))[0])


class Batches(keras.utils.PyDataset):
    """Data in which labels can't be checked before training."""

    def __init__(self, labels):
        super().__init__()
        self.labels = np.array(labels)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return np.ones((len(self.labels), 4), "float32"), self.labels


@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_data_set_that_are_no_classes(column):
    wrong, right = np.array([0, 1, 5, -1]), np.array([0, 1, 4, 3])
    if column:
        wrong, right = wrong[:, None], right[:, None]
    model = compiled()
    with pytest.raises(ValueError, match=r"from 0 to 4\. Received: 4"):
        model.fit(Batches(wrong), verbose=0)
    # Said once, and forgotten.
    model.fit(Batches(right), verbose=0)


def test_a_class_that_the_loss_ignores_is_no_wrong_label():
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    model = compiled(loss=loss)
    history = model.fit(Batches([0, 1, -1, 4]), verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_a_missing_label_is_no_wrong_one_and_in_no_group():
    x, y = data()
    ragged = y.copy()
    ragged[10:] = -1
    within = keras_mimo.Outputs(missing_label=-1)
    model = compiled(ClassGroups(GROUPS, within=within))
    kernels = [v for v in model.trainable_variables if "kernel" in v.path]
    before = [numpy(v) for v in kernels]
    model.fit(x, ragged, batch_size=len(x), shuffle=False, verbose=0)
    changes = [b - numpy(v) for v, b in zip(kernels, before, strict=True)]
    alone = compiled(ClassGroups(GROUPS))
    expected, _ = step(alone, x[:10], y[:10])
    assert_close(changes, [c for c in expected if c.ndim == 2])
