"""The objective that is passed to `compile()` is the one that is used."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mimo
from keras_mimo.objectives import ClassGroups
from keras_mimo.objectives import Outputs

# Each compiles models of its own.
pytestmark = pytest.mark.slow

CLASSES = 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FIT = dict(batch_size=16, verbose=0)


def data():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), 16)
    # Two pairs of classes that look alike.
    x = np.eye(CLASSES)[y] + 2 * np.eye(CLASSES)[2 * (y // 2)]
    x += rng.normal(scale=0.1, size=x.shape)
    return x.astype("float32"), y


def classifier(objectives=None):
    inputs = keras.Input((CLASSES,))
    hidden = layers.Dense(6, activation="tanh", name="backbone")(inputs)
    outputs = layers.Dense(CLASSES, name="classifier")(hidden)
    model = keras_mimo.BalancedModel(inputs, outputs)
    if objectives is not None:
        compile_with(objectives, model)
    return model


def compile_with(objectives, model, loss=LOSS):
    model.compile(
        keras.optimizers.SGD(0.1),
        loss,
        objectives=objectives,
        combiner=keras_mimo.MeanCombiner(),
    )


def trained_groups(model):
    """Which groups had a weight in training."""
    history = model.fit(*data(), **FIT).history
    return [k for k in range(2) if history[f"group_{k}_weight"][0] > 0]


@pytest.mark.parametrize("fitted", [False, True])
def test_groups_that_are_found_after_compile_are_trained(fitted):
    groups = ClassGroups(num_groups=2)
    model = classifier(groups)
    assert model.objectives is groups
    if fitted:
        assert trained_groups(model) == [0]
    groups.adapt(model, data(), verbose=0)
    assert trained_groups(model) == [0, 1]
    assert model.objectives.groups == groups.groups
    groups.assign_groups([[0, 1, 2, 3]])
    assert trained_groups(model) == [0]


def test_it_is_built_anew_when_the_model_is_compiled_anew():
    inputs = keras.Input((4,))
    heads = {name: layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, heads)
    objectives = Outputs()
    x, _ = data()
    y = {"a": x[:, :1], "b": x[:, 1:2]}
    found = []
    for loss in ("mse", {"a": "mse", "b": ["mse", "mae"]}):
        compile_with(objectives, model, loss)
        assert objectives.names is None
        history = model.fit(x, y, **FIT).history
        found.append(sorted(k for k in history if k.endswith("_weight")))
        assert len(model.objectives.names) == len(found[-1])
    assert found[0] == ["a_weight", "b_weight"]
    assert found[1] == ["a_weight", "b_mae_weight", "b_mse_weight"]


def test_groups_stay_when_the_model_is_compiled_anew():
    groups = ClassGroups(num_groups=2)
    model = classifier(groups)
    groups.adapt(model, data(), verbose=0)
    compile_with(groups, model)
    assert trained_groups(model) == [0, 1]


def test_another_model_needs_a_copy():
    groups = ClassGroups(num_groups=2)
    model = classifier(groups)
    groups.adapt(model, data(), verbose=0)
    other = classifier()
    with pytest.raises(
        ValueError, match=r"`objectives` must not .* `objectives\.copy\(\)`"
    ):
        compile_with(groups, other)
    assert trained_groups(model) == [0, 1]
    # Which has the groups, and is independent from then on.
    compile_with(groups.copy(), other)
    assert trained_groups(other) == [0, 1]
    other.objectives.assign_groups([[0, 1, 2, 3]])
    assert trained_groups(model) == [0, 1]
    # And what a model no longer uses is free.
    compile_with(Outputs(), model)
    compile_with(groups, other)
    assert other.objectives is groups


def test_models_one_after_the_other():
    groups = ClassGroups([[0, 1], [2, 3]])
    for _ in range(2):
        model = classifier(groups)
        assert trained_groups(model) == [0, 1]
        model.evaluate(*data(), verbose=0)
        del model


def test_files_and_clones_have_a_copy(tmp_path):
    groups = ClassGroups(num_groups=2)
    model = classifier(groups)
    groups.adapt(model, data(), verbose=0)
    assert trained_groups(model) == [0, 1]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    for each in (loaded, clone):
        assert each.objectives is not groups
        assert each.objectives.groups == groups.groups
    groups.assign_groups([[0, 1, 2, 3]])
    assert trained_groups(loaded) == trained_groups(clone) == [0, 1]
