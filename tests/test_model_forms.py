"""A `BalancedModel` in each of the forms that a `keras.Model` has."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import BalancedModel

# Each compiles models of its own.
pytestmark = pytest.mark.slow

MRO = BalancedModel.__mro__
# None, and one that needs losses only, weights, and all of the gradients.
COMBINERS = [None, "sum", "mgda", "graddrop"]

register = keras.saving.register_keras_serializable(package="forms")


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 4)).astype("float32")
    y = {name: rng.normal(size=(16, 1)).astype("float32") for name in "ab"}
    return x, y


X, Y = data()


def graph(units):
    inputs = keras.Input((4,), name="x")
    hidden = layers.Dense(units, activation="tanh", name="hidden")(inputs)
    return inputs, {name: layers.Dense(1, name=name)(hidden) for name in "ab"}


class OwnConfig:
    """Constructors of their own, and no keyword arguments."""

    def get_config(self):
        return {"units": self.units, "depth": self.depth}


@register
class Built(OwnConfig, BalancedModel):
    def __init__(self, units, depth):
        super().__init__(*graph(units))
        self.units, self.depth = units, depth


@register
class BuiltByName(OwnConfig, BalancedModel):
    def __init__(self, units, depth):
        inputs, outputs = graph(units)
        super().__init__(inputs=inputs, outputs=outputs, name="by_name")
        self.units, self.depth = units, depth


class OwnStep(BalancedModel):
    def train_step(self, *args):
        return super().train_step(*args)


class Mixin:
    def tag(self):
        return f"mixed {self.name}"


@register
class BuiltOfSubclass(OwnConfig, OwnStep, Mixin):
    def __init__(self, units, depth):
        super().__init__(*graph(units))
        self.units, self.depth = units, depth


@register
class Subclassed(Mixin, BalancedModel):
    def __init__(self, units, depth):
        super().__init__()
        self.units, self.depth = units, depth
        self.hidden = layers.Dense(units, activation="tanh")
        self.heads = {name: layers.Dense(1) for name in "ab"}

    def build(self, input_shape):
        self.hidden.build(input_shape)
        for head in self.heads.values():
            head.build((None, self.units))

    def call(self, x):
        hidden = self.hidden(x)
        return {name: head(hidden) for name, head in self.heads.items()}

    def get_config(self):
        return {"units": self.units, "depth": self.depth}


@register
class SubclassOfSubclass(OwnStep):
    def __init__(self, units, depth):
        super().__init__()
        self.units, self.depth = units, depth
        self.hidden = layers.Dense(units, activation="tanh")
        self.heads = {name: layers.Dense(1) for name in "ab"}

    build = Subclassed.build
    call = Subclassed.call
    get_config = Subclassed.get_config


@register
class Coder(BalancedModel):
    """Made of two layers, which could be mistaken for inputs and outputs."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder

    def build(self, input_shape):
        self.encoder.build(input_shape)
        self.decoder.build((None, self.encoder.units))

    def call(self, x):
        decoded = self.decoder(self.encoder(x))
        return {"a": decoded, "b": -decoded}

    def get_config(self):
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
        }

    @classmethod
    def from_config(cls, config):
        coders = [
            keras.saving.deserialize_keras_object(config[key])
            for key in ("encoder", "decoder")
        ]
        return cls(*coders, name=config["name"])


@register
class PassedOn(BalancedModel):
    """A graph from outside, through a constructor that adds to it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.remark = "kept"


@register
class Named(BalancedModel):
    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)


# In the order in which one would have broken the next.
FORMS = {
    "plain": lambda: BalancedModel(*graph(3)),
    "built": lambda: Built(3, 1),
    "subclassed": lambda: Subclassed(3, depth=1),
    "built by name": lambda: BuiltByName(3, 1),
    "built of a subclass": lambda: BuiltOfSubclass(3, 1),
    "coder": lambda: Coder(layers.Dense(3), layers.Dense(1)),
    "subclass of a subclass": lambda: SubclassOfSubclass(3, 1),
    "passed on": lambda: PassedOn(*graph(3)),
    "passed on by name": lambda: PassedOn(
        **dict(zip(("inputs", "outputs"), graph(3), strict=True))
    ),
    "named": lambda: Named(*graph(3), "n"),
    "subclassed again": lambda: Subclassed(3, 1),
}


def predict(model):
    outputs = model(X)
    return [ops.convert_to_numpy(outputs[name]) for name in "ab"]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_made_and_lives_beside_the_others(form):
    for build in (*FORMS.values(), FORMS[form]):
        model = build()
        assert set(model(X)) == {"a", "b"}
    assert BalancedModel.__mro__ == MRO
    # Of one that is not built: a layer in it would come back built.
    again = type(model).from_config(FORMS[form]().get_config())
    assert type(again) is type(model)
    assert set(again(X)) == {"a", "b"}


@pytest.mark.parametrize("combiner", COMBINERS)
def test_each_form_trains_and_comes_back(combiner, tmp_path):
    forms = FORMS if combiner == "mgda" else ("built", "coder")
    for form in forms:
        model = FORMS[form]()
        # Nothing here depends on how a step is compiled.
        model.compile("sgd", "mse", combiner=combiner, run_eagerly=True)
        before = model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
        model.train_on_batch(X, Y)
        after = model.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
        assert after < before, form
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model), form
        assert loaded.compiled and type(loaded.combiner) is type(model.combiner)
        for a, b in zip(predict(loaded), predict(model), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert BalancedModel.__mro__ == MRO


@pytest.mark.parametrize("combiner", [None, "mgda"])
def test_clones_are_compiled(combiner):
    for form, build in FORMS.items():
        model = build()
        model.compile("sgd", "mse", combiner=combiner, run_eagerly=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clone = keras.models.clone_model(model)
        told = [w for w in caught if "without a combiner" in str(w.message)]
        clone(X)
        clone.test_on_batch(X, Y)
        # Keras makes nothing but a `Functional` of the others.
        kept = form not in ("built", "built by name", "built of a subclass")
        assert isinstance(clone, BalancedModel) == kept, form
        assert len(told) == (not kept and combiner is not None), form
        if kept:
            assert type(clone) is type(model)
            assert type(clone.combiner) is type(model.combiner)


def test_a_multimodal_model_that_builds_itself():
    class Own(keras_mimo.MultimodalModel):
        def __init__(self, units, names):
            inputs = keras.Input((4,))
            hidden = layers.Dense(units)(inputs)
            super().__init__(
                inputs, {name: layers.Dense(1)(hidden) for name in names}
            )

    model = Own(3, ["fused", "a", "b"])
    model.compile("sgd", "mse", combiner="mimo")
    logs = model.train_on_batch(X, Y["a"], return_dict=True)
    assert {"fused_loss", "a_loss", "b_loss"} <= set(logs)
    assert isinstance(FORMS["plain"](), BalancedModel)
    assert BalancedModel.__mro__ == MRO


@register
class OwnCompile(BalancedModel):
    """As in guides to adversarial training."""

    def compile(self, first_optimizer, second_optimizer, loss_fn=None):
        super().compile(first_optimizer, loss_fn)
        self.second_optimizer = keras.optimizers.get(second_optimizer)


@register
class SameCompile(BalancedModel):
    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)


@register
class MoreCompile(BalancedModel):
    def compile(self, alpha=1.0, **kwargs):
        super().compile(**kwargs)
        self.alpha = alpha


@register
class SavedCompile(MoreCompile):
    def get_compile_config(self):
        return {**super().get_compile_config(), "alpha": self.alpha}


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (OwnCompile, ("sgd", "adam", "mse")),
        (MoreCompile, {"alpha": 2.0, "loss": "mse", "combiner": "sum"}),
    ],
)
def test_a_compile_of_its_own_is_not_called_by_loading(
    cls, arguments, tmp_path
):
    model = cls(*graph(3))
    if isinstance(arguments, dict):
        model.compile(**arguments)
    else:
        model.compile(*arguments)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="without being compiled"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is cls and loaded.combiner is None
    assert not hasattr(loaded, "optimizer")
    for a, b in zip(predict(loaded), predict(model), strict=True):
        np.testing.assert_array_equal(a, b)
    if isinstance(arguments, dict):
        loaded.compile(**arguments)
    else:
        loaded.compile(*arguments)
    loaded.train_on_batch(X, Y)


def test_a_compile_that_takes_what_was_saved_is_called_by_loading(tmp_path):
    for cls, more in ((SameCompile, {}), (SavedCompile, {"alpha": 2.0})):
        model = cls(*graph(3))
        model.compile(loss="mse", combiner="mgda", **more)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded.combiner) is keras_mimo.MGDACombiner
        assert getattr(loaded, "alpha", None) == more.get("alpha")


def frozen():
    model = FORMS["plain"]()
    model.trainable = False
    return model


def preprocessing():
    inputs = keras.Input((1,))
    outputs = {name: layers.Rescaling(2.0)(inputs) for name in "ab"}
    return BalancedModel(inputs, outputs)


@pytest.mark.parametrize(
    "options",
    [
        {"blocks": "layer"},
        {"combiner": "sum"},
        {"combiner": "mgda", "balanced_variables": lambda v: True},
        {"combiner": "mgda", "blocks": "layer"},
        {"combiner": keras_mimo.combiners.EveryN(keras_mimo.MGDACombiner(), 2)},
        {"combiner": "graddrop"},
    ],
)
def test_a_model_without_trainable_variables(options, tmp_path):
    for build, x in ((frozen, X), (preprocessing, X[:, :1])):
        model = build()
        model.compile("sgd", "mse", run_eagerly=True, **options)
        expected = model.evaluate(x, Y, verbose=0, return_dict=True)["loss"]
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for same in (model, loaded):
            same.fit(x, Y, verbose=0)
            actual = same.evaluate(x, Y, verbose=0, return_dict=True)["loss"]
            np.testing.assert_allclose(actual, expected, rtol=1e-6)
        assert keras.models.clone_model(model).compiled


def test_a_model_may_be_unfrozen():
    model = frozen()
    model.compile("sgd", "mse", combiner="mgda")
    before = model.evaluate(X, Y, verbose=0)[0]
    model.fit(X, Y, verbose=0)
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(before)
    model.trainable = True
    model.compile("sgd", "mse", combiner="mgda")
    model.fit(X, Y, verbose=0)
    assert model.evaluate(X, Y, verbose=0)[0] < before * 0.999


def test_compiled_anew_without_a_combiner_it_has_none():
    model = FORMS["plain"]()
    model.compile("sgd", "mse", combiner="mgda")
    model.train_on_batch(X, Y)
    assert "weight" in [metric.name for metric in model.metrics]
    model.compile("sgd")
    assert model.combiner is None and model.objectives is None
    assert [metric.name for metric in model.metrics] == ["loss"]


@pytest.mark.parametrize("combiner", ["sum", "mgda"])
def test_hdf5_files_are_told_to_hold_no_combiner(combiner, tmp_path):
    model = FORMS["plain"]()
    loss = {name: keras.losses.MeanSquaredError() for name in "ab"}
    model.compile("sgd", loss, combiner=combiner)
    model.train_on_batch(X, Y)
    with pytest.warns(UserWarning, match="holds no combiner"):
        model.save(tmp_path / "model.h5")
    loaded = keras.saving.load_model(
        tmp_path / "model.h5", {type(model).__name__: type(model)}
    )
    assert loaded.combiner is None
    for a, b in zip(predict(loaded), predict(model), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0)[0], model.evaluate(X, Y, verbose=0)[0]
    )
    model.compile("sgd", loss)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*holds no combiner")
        model.save(tmp_path / "model.h5")
