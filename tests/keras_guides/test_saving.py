"""Saving and serialization."""

import keras
import pytest
from keras import layers
from keras import ops

from keras_mimo import BalancedModel
from tests.keras_guides.common import COMBINERS
from tests.keras_guides.common import Linear
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import assert_same
from tests.keras_guides.common import compiled
from tests.keras_guides.common import graph
from tests.keras_guides.common import options
from tests.keras_guides.common import register


class OwnSaving:
    """Every method that the guide to saving lets a model have of its own."""

    def compile(self, factor=1.0, **arguments):
        super().compile(**arguments)
        self.factor = factor

    def compute_loss(self, *args, **kwargs):
        return self.factor * super().compute_loss(*args, **kwargs)

    def get_compile_config(self):
        return {**super().get_compile_config(), "factor": self.factor}

    def compile_from_config(self, config):
        assert config["optimizer"]["class_name"] == "SGD"
        self.compile(**keras.saving.deserialize_keras_object(config))

    def save_own_variables(self, store):
        store["scale"] = ops.convert_to_numpy(self.scale)

    def load_own_variables(self, store):
        self.scale.assign(store["scale"])

    def save_assets(self, folder):
        with open(f"{folder}/words.txt", "w") as file:
            file.write(self.words)

    def load_assets(self, folder):
        with open(f"{folder}/words.txt") as file:
            self.words = file.read()

    def get_config(self):
        return {"units": self.units}


def subclassed_saving(base):
    @register
    class SubclassedSaving(OwnSaving, base):
        def __init__(self, units):
            super().__init__()
            self.units = units
            self.hidden = layers.Dense(units)
            self.heads = {name: layers.Dense(1) for name in "ab"}

        def build(self, input_shape, initializer):
            self.initializer = initializer
            self.scale = self.add_weight(
                shape=(), initializer=initializer, trainable=False
            )
            self.hidden.build(input_shape)
            for head in self.heads.values():
                head.build((None, self.units))

        def call(self, x):
            x = self.scale * self.hidden(x)
            return {name: head(x) for name, head in self.heads.items()}

        def get_build_config(self):
            return {"shape": [None, 4], "initializer": self.initializer}

        def build_from_config(self, config):
            self.build(config["shape"], config["initializer"])

    model = SubclassedSaving(3)
    model.build((None, 4), "ones")
    return model


def functional_saving(base):
    @register
    class FunctionalSaving(OwnSaving, base):
        def __init__(self, units):
            super().__init__(*graph(units))
            self.units = units
            self.scale = self.add_weight(
                shape=(), initializer="ones", trainable=False
            )

    return FunctionalSaving(3)


@pytest.mark.slow
@pytest.mark.parametrize("build", [subclassed_saving, functional_saving])
@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_own_methods_of_saving(build, combiner, tmp_path):
    for base in (keras.Model, BalancedModel):
        model = build(base)
        given = options(combiner) if base is BalancedModel else {}
        compiled(model, given, factor=4.0)
        model.scale.assign(2.0)
        model.words = "some words"
        expected = model.evaluate(X, Y, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model)
        assert float(loaded.scale) == 2.0
        assert loaded.factor == 4.0
        assert loaded.words == "some words"
        assert_same(loaded.evaluate(X, Y, verbose=0), expected)
        assert_same(loaded, model)
        logs = [m.train_on_batch(X, Y) for m in (loaded, model)]
        assert_same(*logs)
        assert_same(loaded, model)
    assert type(loaded.combiner) is type(model.combiner)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_a_class_that_is_not_registered(combiner, tmp_path):
    class Unregistered(BalancedModel):
        def __init__(self, layer, **kwargs):
            super().__init__(**kwargs)
            self.layer = layer
            self.heads = {name: layers.Dense(1) for name in "ab"}

        def call(self, x):
            x = self.layer(x)
            return {name: head(x) for name, head in self.heads.items()}

        def get_config(self):
            layer = keras.saving.serialize_keras_object(self.layer)
            return {**super().get_config(), "layer": layer}

        @classmethod
        def from_config(cls, config):
            layer = keras.saving.deserialize_keras_object(config.pop("layer"))
            return cls(layer, **config)

    model = Unregistered(Linear(3, name="first"), name="mine")
    model(X)
    compiled(model, options(combiner)).train_on_batch(X, Y)
    expected = model.evaluate(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    custom = {"Unregistered": Unregistered}
    for folder in (False, True):
        path = tmp_path / ("folder" if folder else "model.keras")
        if folder:
            model.save(path, zipped=False)
        with keras.saving.custom_object_scope(custom):
            loaded = keras.saving.load_model(path)
        assert type(loaded) is Unregistered and loaded.name == "mine"
        assert type(loaded.combiner) is type(model.combiner)
        assert_same(loaded.evaluate(X, Y, verbose=0), expected)
    with pytest.raises(TypeError, match="Unregistered"):
        keras.saving.load_model(path)
    loaded = keras.saving.load_model(path, custom, compile=False)
    assert not loaded.compiled and loaded.combiner is None
    assert_same(loaded, model)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_architectures_without_weights(combiner):
    model = compiled(BalancedModel(*graph()), options(combiner))
    again = [
        type(model).from_config(model.get_config()),
        keras.models.model_from_json(model.to_json()),
        keras.models.clone_model(model),
    ]
    for other in again:
        assert type(other) is type(model)
        other.set_weights(model.get_weights())
        assert_same(other(X), model(X))
    assert [other.compiled for other in again] == [False, True, True]
    for other in again[1:]:
        assert type(other.combiner) is type(model.combiner)
        other.set_weights(model.get_weights())
        # As Keras 3.12 does not.
        model.reset_metrics()
        assert_same(*[m.train_on_batch(X, Y) for m in (other, model)])


def test_weights_go_from_model_to_model(tmp_path):
    """Between classes, architectures without weights in between, and parts."""
    source = compiled(BalancedModel(*graph()), {"combiner": "mgda"})
    source.train_on_batch(X, Y)
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="tanh", name="hidden")(inputs)
    x = layers.Dropout(0.5)(x)
    heads = {name: layers.Dense(1, name=name)(x) for name in "ab"}
    target = BalancedModel(inputs, heads)
    target.set_weights(source.get_weights())
    assert_same(target(X), source(X))
    for base in (keras.Model, BalancedModel):
        target = base(*graph())
        source.save_weights(tmp_path / "all.weights.h5")
        target.load_weights(tmp_path / "all.weights.h5")
        assert_same(target, source)
        source.save_weights(tmp_path / "all.weights.json", max_shard_size=1)
        target = base(*graph())
        target.load_weights(tmp_path / "all.weights.json")
        assert_same(target, source)
        backbone = base(target.inputs, target.get_layer("hidden").output)
        assert_same(backbone.get_weights(), source.get_weights()[:2])
        inputs = keras.Input((4,))
        wider = base(
            inputs,
            layers.Dense(7, name="other")(
                layers.Dense(3, activation="tanh", name="hidden")(inputs)
            ),
        )
        with pytest.warns(UserWarning, match="could not be loaded"):
            wider.load_weights(tmp_path / "all.weights.h5", skip_mismatch=True)
        assert_same(wider.get_weights()[:2], source.get_weights()[:2])
