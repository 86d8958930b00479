"""The functional API."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_mimo import BalancedModel
from tests.keras_guides.common import BATCHES
from tests.keras_guides.common import QUICK
from tests.keras_guides.common import SAMPLES
from tests.keras_guides.common import SUMS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import assert_same
from tests.keras_guides.common import fitted
from tests.keras_guides.common import plain
from tests.keras_guides.common import sgd

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


def several_inputs(base):
    """A layer and a model that are called twice."""
    inner_inputs = keras.Input((3,))
    inner = base(inner_inputs, layers.Dense(3, activation="tanh")(inner_inputs))
    title, body = (
        keras.Input((6,), name="title"),
        keras.Input((4,), name="body"),
    )
    embed = layers.Embedding(10, 3)
    text = layers.GlobalAveragePooling1D()(embed(title))
    first = layers.GlobalMaxPooling1D()(embed(title))
    numbers = inner(layers.Dense(3)(body))
    joint = layers.add([inner(text), numbers, first])
    joint = layers.concatenate([joint, ops.square(numbers)])
    outputs = {
        "a": layers.Dense(1, name="a")(joint),
        "b": layers.Dense(3, activation="softmax", name="b")(joint),
    }
    return base({"title": title, "body": body}, outputs, name="several")


INPUTS = {
    "title": np.random.default_rng(1).integers(0, 10, (SAMPLES, 6)),
    "body": X,
}
LABELS = {"a": Y["a"], "b": np.eye(3, dtype="float32")[np.arange(SAMPLES) % 3]}


def train_several(model, given):
    model.compile(
        sgd(),
        {"a": "mse", "b": keras.losses.CategoricalCrossentropy()},
        loss_weights={"a": 0.2, "b": 1.0},
        metrics={"b": ["accuracy"]},
        **QUICK,
        **given,
    )
    return model.fit(INPUTS, LABELS, epochs=2, **BATCHES).history


@pytest.mark.parametrize("combiner", SUMS)
def test_several_inputs_and_shared_layers(combiner, tmp_path):
    model = as_keras_does(several_inputs, train_several, combiner)
    expected_model, _ = plain(several_inputs, train_several)
    assert len(model.layers) == len(expected_model.layers)
    assert summary(model) == summary(expected_model)
    assert model.count_params() == expected_model.count_params()
    assert list(model.input) == list(expected_model.input)
    assert model.output_names == expected_model.output_names
    features = BalancedModel(model.input, [x.output for x in model.layers[-2:]])
    assert_same(features(INPUTS), list(model(INPUTS).values()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded(INPUTS), model(INPUTS))
    assert_same(
        loaded.predict(INPUTS, verbose=0), model.predict(INPUTS, verbose=0)
    )


def summary(model):
    """Its lines of parameters, without names and the optimizer's."""
    lines = []
    model.summary(print_fn=lambda text, **kwargs: lines.append(text))
    return [
        line
        for line in "\n".join(lines).splitlines()
        if "params" in line and "Optimizer" not in line
    ]


def test_a_plot_of_a_model(tmp_path):
    pytest.importorskip("pydot")
    model = several_inputs(BalancedModel)
    dot = keras.utils.model_to_dot(model, expand_nested=True)
    assert "title" in dot.to_string()


def unnamed_graph():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, activation="tanh")(inputs)
    return inputs, {name: layers.Dense(1)(hidden) for name in "ab"}


def ensemble(base):
    members = [base(*unnamed_graph()) for _ in range(3)]
    inputs = keras.Input((4,))
    outputs = [member(inputs) for member in members]
    return base(
        inputs,
        {n: layers.average([output[n] for output in outputs]) for n in "ab"},
    )


@pytest.mark.parametrize("combiner", SUMS)
def test_an_ensemble(combiner):
    model = as_keras_does(ensemble, fitted, combiner)
    assert len(model.layers) == 6


def with_sequential(base):
    class WithSequential(base):
        def __init__(self):
            super().__init__()
            self.body = keras.Sequential(
                [
                    layers.Dense(5, activation="tanh"),
                    layers.Dropout(0.2, seed=1),
                ]
            )
            self.heads = {
                name: keras.Sequential([layers.Dense(2), layers.Dense(1)])
                for name in "ab"
            }

        def call(self, x, training=False):
            x = self.body(x, training=training)
            return {name: head(x) for name, head in self.heads.items()}

    return WithSequential()


@pytest.mark.parametrize("combiner", SUMS)
def test_sequential_models_inside(combiner):
    as_keras_does(with_sequential, fitted, combiner)
