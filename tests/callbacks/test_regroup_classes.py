import csv

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.callbacks import RegroupClasses
from keras_mimo.objectives import ClassGroups

# Each compiles models of its own.
pytestmark = pytest.mark.slow

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OPTIONS = dict(batch_size=32, shuffle=False, verbose=0)


def data():
    """Two pairs of classes, each with an input of its own."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=128)
    x = rng.normal(size=(128, 4)).astype("float32") / 4
    side = 2 * (y % 2)
    x[np.arange(128), side] += np.where(y < 2, 1.0, -1.0)
    return x, y


def compiled(objectives=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="tanh")(inputs)
    model = keras_mimo.BalancedModel(inputs, layers.Dense(4)(x))
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSS,
        objectives=objectives or ClassGroups(num_groups=2),
        combiner=keras_mimo.MeanCombiner(),
    )
    return model


def test_groups_are_found_at_the_epochs_that_were_asked_for():
    x, y = data()
    model = compiled()
    regroup = RegroupClasses((x, y), start=2, every=3)
    history = model.fit(x, y, epochs=9, callbacks=[regroup], **OPTIONS).history
    assert [epoch for epoch, _ in regroup.history] == [2, 5, 8]
    # Before that, all are in the first group.
    np.testing.assert_array_equal(history["group_1_weight"][:2], 0)
    assert min(history["group_1_weight"][2:]) > 0
    assert model.objectives.groups == regroup.history[-1][1].groups
    found = [sorted(group) for group in model.objectives.groups]
    assert sorted(c for group in found for c in group) == [0, 1, 2, 3]
    assert [len(group) for group in found] == [2, 2]


def test_once_only_by_default():
    x, y = data()
    regroup = RegroupClasses((x, y), start=0)
    compiled().fit(x, y, epochs=3, callbacks=[regroup], **OPTIONS)
    assert [epoch for epoch, _ in regroup.history] == [0]


def test_the_same_groups_as_by_adapt_before_training():
    x, y = data()
    model = compiled()
    regroup = RegroupClasses((x, y), start=0)
    model.fit(x, y, epochs=1, callbacks=[regroup], **OPTIONS)
    objective = ClassGroups(num_groups=2)
    grouping = objective.adapt(compiled(), (x, y), verbose=0)
    assert grouping.groups == objective.groups == model.objectives.groups
    np.testing.assert_allclose(
        grouping.affinity, regroup.history[0][1].affinity, atol=1e-5
    )


def test_how_well_groups_agree_is_logged_in_every_epoch(tmp_path):
    x, y = data()
    model = compiled()
    regroup = RegroupClasses((x, y), start=1, every=2)
    csv_logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = [regroup, csv_logger]
    history = model.fit(x, y, epochs=4, callbacks=callbacks, **OPTIONS).history
    (_, first), (_, second) = regroup.history
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name in ("cosine_inside_groups", "cosine_between_groups"):
        values = [getattr(grouping, name) for grouping in (first, second)]
        # Those of the groups with which the epoch was trained.
        expected = [np.nan, values[0], values[0], values[1]]
        np.testing.assert_array_equal(history[name], expected)
        np.testing.assert_allclose([float(r[name]) for r in rows], expected)
        assert np.isfinite(values).all()
    assert first.cosine_inside_groups > first.cosine_between_groups
    # Known still when training goes on, until the groups are others.
    options = dict(callbacks=callbacks, initial_epoch=4, **OPTIONS)
    history = model.fit(x, y, epochs=5, **options).history
    assert history["cosine_inside_groups"] == [second.cosine_inside_groups]
    model.objectives.assign_groups([[0], [1, 2, 3]])
    history = model.fit(x, y, epochs=5, **options).history
    assert np.isnan(history["cosine_inside_groups"]).all()


@pytest.mark.parametrize("by_objective", [True, False])
def test_the_method_is_passed_on(by_objective):
    """That of the callback counts, and otherwise that of `gbg()`."""
    x, y = data()
    found = keras_mimo.grouping.find_groups
    methods = []

    def spy(*arguments, **options):
        methods.append(options["method"])
        return found(*arguments, **options)

    model = compiled()
    arguments = keras_mimo.gbg(2, method="released" if by_objective else "ward")
    model.compile("sgd", LOSS, **arguments)
    options = {} if by_objective else {"method": "released"}
    regroup = RegroupClasses((x, y), start=0, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras_mimo.grouping, "find_groups", spy)
        model.fit(x, y, callbacks=[regroup], **OPTIONS)
    assert methods == ["released"]


def test_another_objective_is_refused():
    x, y = data()
    model = compiled(keras_mimo.Outputs())
    with pytest.raises(ValueError, match=r"objectives=ClassGroups"):
        model.fit(x, y, callbacks=[RegroupClasses((x, y))], **OPTIONS)


@pytest.mark.parametrize(
    "arguments", [{"start": -1}, {"start": 1.5}, {"every": 0}, {"every": True}]
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be an integer"):
        RegroupClasses(data(), **arguments)


def test_an_unknown_method_is_refused_before_training():
    with pytest.raises(ValueError, match="`method` must be one of"):
        RegroupClasses(data(), method="average")


def test_the_fused_loss_groups_the_classes_of_modalities():
    x, y = data()
    x = {"a": x[:, :2], "b": x[:, 2:]}

    def regrouped(loss):
        keras.utils.set_random_seed(0)
        encoders = {
            name: keras.Sequential(
                [keras.Input((2,)), layers.Dense(4, activation="tanh")]
            )
            for name in x
        }
        model = keras_mimo.late_fusion(encoders, 4, fusion="concat")
        options = keras_mimo.gbg(num_groups=2, within=keras_mimo.Modalities())
        model.compile(keras.optimizers.SGD(0.1), LOSS, **options)
        regroup = RegroupClasses((x, y), start=1, loss=loss)
        history = model.fit(x, y, epochs=2, callbacks=[regroup], **OPTIONS)
        assert len(model.objectives.groups) == 2
        inside = regroup.history[0][1].cosine_inside_groups
        return inside, history.history["loss"]

    def of_fused(y, y_pred):
        return keras.losses.sparse_categorical_crossentropy(
            y, y_pred["fused"], from_logits=True
        )

    actual, expected = regrouped(None), regrouped(of_fused)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-5)
