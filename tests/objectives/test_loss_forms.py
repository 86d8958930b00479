"""`loss` and `loss_weights` in each of the forms that Keras takes."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import BalancedModel
from keras_mimo import objectives

# Each compiles models of its own.
pytestmark = pytest.mark.slow

register = keras.saving.register_keras_serializable(package="loss_forms")


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 4)).astype("float32")
    y = {name: rng.normal(size=(16, 1)).astype("float32") for name in "ab"}
    return x, y


X, Y = data()


@register
class SumOfGradients(keras_mimo.SumCombiner):
    """Plain Keras, through K gradients."""

    needs = "gramian"


def graph(units):
    inputs = keras.Input((4,), name="x")
    hidden = layers.Dense(units, activation="tanh", name="hidden")(inputs)
    return inputs, {name: layers.Dense(1, name=name)(hidden) for name in "ab"}


LOSSES = {"a": "mse", "b": "mae"}
WEIGHTS = {
    "variables": lambda: {
        "a": keras.Variable(0.5, trainable=False),
        "b": keras.Variable(2.0, trainable=False),
    },
    "NumPy scalars": lambda: {"a": np.float64(0.5), "b": np.float32(2.0)},
    "0-d arrays": lambda: {"a": np.array(0.5), "b": np.array(2, "float32")},
    "tensors": lambda: {name: ops.ones(()) for name in "ab"},
    "integers": lambda: {"a": 1, "b": np.int64(2)},
}


def weighted(cls, weights, **options):
    keras.utils.set_random_seed(0)
    model = cls(*graph(3))
    model.compile(
        "sgd", LOSSES, loss_weights=weights, run_eagerly=True, **options
    )
    return model


@pytest.mark.parametrize("kind", WEIGHTS)
def test_loss_weights_of_any_kind(kind, tmp_path):
    weights = WEIGHTS[kind]()
    floats = {
        name: float(ops.convert_to_numpy(w)) for name, w in weights.items()
    }
    expected = weighted(keras.Model, floats).train_on_batch(X, Y)[0]
    for combiner in ("sum", "graddrop"):
        model = weighted(BalancedModel, weights, combiner=combiner)
        np.testing.assert_allclose(
            model.train_on_batch(X, Y)[0], expected, rtol=1e-6
        )
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(
            loaded.test_on_batch(X, Y)[0],
            model.test_on_batch(X, Y)[0],
            rtol=1e-6,
        )


def test_loss_weights_that_a_callback_changes():
    """Seen in the next epoch where the model has them, as Keras sees them."""

    class Change(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.alpha.assign(10.0)

    def train(cls, **options):
        keras.utils.set_random_seed(0)
        model = cls(*graph(3))
        model.alpha = keras.Variable(0.5, trainable=False)
        weights = {"a": model.alpha, "b": 1.0}
        model.compile("sgd", LOSSES, loss_weights=weights, **options)
        return model.fit(
            X, Y, epochs=3, verbose=0, shuffle=False, callbacks=[Change()]
        ).history["loss"]

    expected = train(keras.Model)
    assert expected[1] > 2 * expected[0]
    for combiner in (None, "sum", SumOfGradients()):
        actual = train(BalancedModel, combiner=combiner)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@register
def joint(y_true, y_pred):
    """A loss of both outputs together."""
    difference = (y_pred["a"] - y_true["a"]) * (y_pred["b"] - y_true["b"])
    return ops.mean(difference**2)


STRUCTURES = [
    [joint, {"a": "mse", "b": "mae"}],
    [{"a": "mse", "b": "mae"}, joint],
    (joint, {"a": "mse"}),
    [joint, ["mse", "mae"]],
    [joint, [joint, {"a": "mse", "b": "mae"}]],
    [{"a": "mse", "b": "mae"}, {"a": "mae", "b": "mse"}],
]


@pytest.mark.parametrize("index", range(len(STRUCTURES)))
def test_losses_of_several_outputs_are_those_of_keras(index):
    keras.utils.set_random_seed(0)
    plain = keras.Model(*graph(3))
    start = plain.get_weights()
    plain.compile("sgd", STRUCTURES[index], run_eagerly=True)
    expected = plain.train_on_batch(X, Y, return_dict=True)
    for combiner in ("sum", SumOfGradients())[: 2 if index == 0 else 1]:
        model = BalancedModel(*graph(3))
        model.set_weights(start)
        model.compile(
            "sgd", STRUCTURES[index], combiner=combiner, run_eagerly=True
        )
        logs = model.train_on_batch(X, Y, return_dict=True)
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, rtol=1e-6)
        for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_loss_of_several_outputs_is_an_objective(tmp_path):
    model = BalancedModel(*graph(3))
    model.compile(
        "sgd",
        STRUCTURES[0],
        loss_weights=[2.0, {"a": 0.5, "b": 1.0}],
        combiner="mgda",
    )
    logs = model.train_on_batch(X, Y, return_dict=True)
    # Keras names it after the outputs.
    assert model.objectives.names == ["a_b", "a", "b"]
    assert {"a_b_weight", "a_weight", "b_weight"} <= set(logs)
    total = 2.0 * logs["a_b_loss"] + 0.5 * logs["a_loss"] + logs["b_loss"]
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0)
    )


def test_a_loss_of_several_outputs_is_refused_by_name():
    labels = {name: np.zeros(16, "int32") for name in "ab"}
    for objective, y in (
        (objectives.Modalities(fused="a"), Y["a"]),
        (objectives.ClassGroups([[0], [1]]), labels),
        (objectives.Outputs(missing_label=-1.0), Y),
    ):
        model = BalancedModel(*graph(3))
        model.compile(
            "sgd", STRUCTURES[0], objectives=objective, combiner="sum"
        )
        with pytest.raises(ValueError, match=r"entry for each output.*joint"):
            model.train_on_batch(X, y)


def test_a_dict_of_losses_for_one_of_several_outputs_is_refused_by_name():
    inputs, outputs = graph(3)
    model = BalancedModel(inputs, list(outputs.values()))
    model.compile("sgd", [joint, {"a": "mse", "b": "mae"}], combiner="sum")
    with pytest.raises(ValueError, match=r"`loss` names an output.*'b'"):
        model.train_on_batch(X, list(Y.values()))


def wrong_keys():
    """Arguments of `compile()` and `fit()` with names that are not there."""
    weight = np.ones(16, "float32")
    each = {"a": "mse", "b": "mse"}
    return {
        "loss": ({"loss": {**each, "z": "mse"}}, {}),
        "loss_one": ({"loss": {"a": "mse", "z": "mse"}}, {}),
        "loss_list": ({"loss": ["mse"] * 3}, {}),
        "y": ({}, {"y": {"a": Y["a"], "z": Y["b"]}}),
        "y_less": ({}, {"y": {"a": Y["a"]}}),
        "y_more": ({}, {"y": {**Y, "z": Y["a"]}}),
        "y_array": ({}, {"y": Y["a"]}),
        "weights": ({"loss_weights": {"a": 1.0, "z": 1.0}}, {}),
        "weights_less": (
            {"loss": each, "loss_weights": {"a": 1.0}},
            {},
        ),
        "weights_more": (
            {"loss": each, "loss_weights": {"a": 1.0, "b": 1.0, "z": 1.0}},
            {},
        ),
        "metrics": ({"metrics": {"z": "mae"}}, {}),
        "sample_weight": ({}, {"sample_weight": {"a": weight, "z": weight}}),
        "sample_weight_less": ({}, {"sample_weight": {"a": weight}}),
    }


def error_of(cls, as_list, arguments, batch, **options):
    inputs, outputs = graph(2)
    y = dict(Y)
    if as_list:
        outputs, y = list(outputs.values()), list(y.values())
    model = cls(inputs, outputs)
    try:
        model.compile(
            **{"loss": "mse", **arguments}, run_eagerly=True, **options
        )
        model.fit(**{"x": X, "y": y, **batch}, verbose=0)
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("case", wrong_keys())
@pytest.mark.parametrize("as_list", [False, True])
def test_what_handles_an_error_of_keras_handles_ours(case, as_list):
    arguments, batch = wrong_keys()[case]
    theirs = error_of(keras.Model, as_list, arguments, batch)
    ours = error_of(BalancedModel, as_list, arguments, batch, combiner="sum")
    # Keras takes weights for more outputs than there are in one form.
    assert theirs is not None or (case, as_list) == ("weights_more", True)
    assert isinstance(ours, type(theirs) if theirs else ValueError)
    # Not quoted, as what a `KeyError` says.
    assert theirs is None or not str(ours).startswith('"`')


def test_weights_for_other_outputs_are_refused():
    """Keras takes them by their order."""
    model = BalancedModel(*graph(2))
    model.compile(
        "sgd", LOSSES, loss_weights={"a": 1.0, "z": 2.0}, combiner="sum"
    )
    with pytest.raises(ValueError, match=r"one entry for each loss.*'z'"):
        model.train_on_batch(X, Y)
