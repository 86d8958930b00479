import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.objectives import Outputs


def arrays(samples=12):
    rng = np.random.default_rng(1)
    y = rng.normal(size=(samples, 2)).astype("float32")
    y_pred = rng.normal(size=(samples, 2)).astype("float32")
    return y, y_pred


def evaluate(objective, y, y_pred, sample_weight=None):
    losses, active = objective(y, y_pred, sample_weight)
    assert ops.convert_to_numpy(active).all()
    return dict(
        zip(
            objective.names,
            [float(ops.convert_to_numpy(x)) for x in losses],
            strict=True,
        )
    )


def compiled(loss, loss_weights=None, output_names=None):
    objective = Outputs()
    objective.compile(loss, loss_weights, output_names)
    return objective


def mse(y, y_pred):
    return float(np.mean((y - y_pred) ** 2))


def mae(y, y_pred):
    return float(np.mean(np.abs(y - y_pred)))


def test_dict_of_outputs():
    y, p = arrays()
    objective = compiled({"a": "mse", "b": "mae"}, output_names=["a", "b"])
    losses = evaluate(objective, {"a": y, "b": y}, {"a": p, "b": p})
    assert losses == pytest.approx({"a": mse(y, p), "b": mae(y, p)})
    assert [m.name for m in objective.metrics] == ["a_loss", "b_loss"]


def test_one_loss_serves_every_output_with_weights():
    y, p = arrays()
    objective = compiled("mse", None, ["a", "b"])
    losses = evaluate(objective, [y, y], [p, 2 * p])
    assert losses == pytest.approx({"a": mse(y, p), "b": mse(y, 2 * p)})


def test_loss_weights_are_part_of_the_objective_and_not_of_its_log():
    y, p = arrays()
    objective = compiled(["mse", "mae"], [0.5, 3.0], ["a", "b"])
    losses = evaluate(objective, [y, y], [p, p])
    assert losses == pytest.approx({"a": 0.5 * mse(y, p), "b": 3 * mae(y, p)})
    logged = [float(m.result()) for m in objective.metrics]
    assert logged == pytest.approx([mse(y, p), mae(y, p)])


def test_several_losses_on_a_single_output():
    y, p = arrays()
    objective = compiled(["mse", "mae"], [1.0, 0.25], ["out"])
    losses = evaluate(objective, y, p)
    assert losses == pytest.approx({"mse": mse(y, p), "mae": 0.25 * mae(y, p)})
    logged = {m.name: float(m.result()) for m in objective.metrics}
    expected = {"mse_loss": mse(y, p), "mae_loss": mae(y, p)}
    assert logged == pytest.approx(expected)


def test_several_losses_on_one_of_two_outputs():
    y, p = arrays()
    objective = compiled({"a": ["mse", "mae"], "b": "mae"}, None, ["a", "b"])
    losses = evaluate(objective, {"a": y, "b": y}, {"a": p, "b": 2 * p})
    assert losses == pytest.approx(
        {"a_mse": mse(y, p), "a_mae": mae(y, p), "b": mae(y, 2 * p)}
    )
    logged = {m.name: float(m.result()) for m in objective.metrics}
    assert logged["a_loss"] == pytest.approx(mse(y, p) + mae(y, p))
    assert logged["a_mae_loss"] == pytest.approx(mae(y, p))


def test_the_same_loss_twice_gets_two_names():
    y, p = arrays()
    objective = compiled(["mse", "mse"], [1.0, 2.0], ["out"])
    losses = evaluate(objective, y, p)
    assert losses == pytest.approx({"mse": mse(y, p), "mse_1": 2 * mse(y, p)})


def test_partial_loss_is_no_objective():
    y, p = arrays()
    objective = compiled({"a": "mse", "b": None}, None, ["a", "b"])
    losses = evaluate(objective, {"a": y, "b": y}, {"a": p, "b": p})
    assert losses == pytest.approx({"a": mse(y, p)})


def test_a_lone_loss_is_named_after_its_output():
    y, p = arrays()
    targets, outputs = {"a": y, "b": y}, {"a": p, "b": 2 * p}
    objective = compiled({"b": "mse"}, None, ["a", "b"])
    losses = evaluate(objective, targets, outputs)
    assert losses == pytest.approx({"b": mse(y, 2 * p)})
    objective = compiled({"b": ["mse", "mae"]}, None, ["a", "b"])
    losses = evaluate(objective, targets, outputs)
    expected = {"b_mse": mse(y, 2 * p), "b_mae": mae(y, 2 * p)}
    assert losses == pytest.approx(expected)


def test_sample_weights_and_crossentropy_shorthand():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 8).astype("float32")
    y = rng.integers(0, 3, 8)
    weight = rng.uniform(size=8).astype("float32")
    objective = compiled({"a": "crossentropy", "b": "ce"}, None, ["a", "b"])
    one_hot = np.eye(3, dtype="float32")[y]
    losses = evaluate(
        objective, {"a": y, "b": one_hot}, {"a": p, "b": p}, weight
    )
    expected = np.mean(-np.log(p[np.arange(8), y]) * weight)
    assert losses == pytest.approx({"a": expected, "b": expected}, rel=1e-5)


def test_names_of_a_subclassed_model_come_from_its_outputs():
    y, p = arrays()
    objective = compiled("mse")
    losses = evaluate(objective, {"b": y, "a": y}, {"b": p, "a": 2 * p})
    assert losses == pytest.approx({"b": mse(y, p), "a": mse(y, 2 * p)})
    assert objective.names == ["a", "b"]


@pytest.mark.parametrize(
    "loss, weights, message",
    [
        ({"a": "mse", "c": "mse"}, None, r"'c'.*\['a', 'b'\]"),
        (["mse", "mse", "mae"], None, "one entry for each output.*2 outputs"),
        (["mse", "mse"], [1.0], "`loss_weights` must have one entry"),
    ],
)
def test_losses_that_do_not_fit_the_outputs(loss, weights, message):
    y, p = arrays()
    objective = compiled(loss, weights, ["a", "b"])
    with pytest.raises(ValueError, match=message):
        objective([y, y], [p, p])


def test_a_list_of_weights_does_not_fit_a_dict_of_outputs():
    y, p = arrays()
    objective = compiled("mse", [1.0, 2.0], ["a", "b"])
    with pytest.raises(ValueError, match="must be a dict"):
        objective({"a": y, "b": y}, {"a": p, "b": p})


def test_both_losses_of_a_single_output_train_the_model():
    """Plain Keras drops the second loss; here both reach the gradient."""
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    gradients = {}
    for weights in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        model = keras_mimo.BalancedModel(inputs, layers.Dense(1)(inputs))
        model.compile(
            keras.optimizers.SGD(1.0),
            ["mse", "mae"],
            combiner=keras_mimo.ConstantCombiner(weights),
        )
        before = ops.convert_to_numpy(model.layers[-1].kernel).copy()
        logs = model.train_on_batch(x, y, return_dict=True)
        after = ops.convert_to_numpy(model.layers[-1].kernel)
        gradients[tuple(weights)] = before - after
        assert {"mse_loss", "mae_loss", "mse_weight"} <= set(logs)
        expected = weights[0] * logs["mse_loss"] + weights[1] * logs["mae_loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    total = gradients[1.0, 0.0] + gradients[0.0, 1.0]
    np.testing.assert_allclose(gradients[1.0, 1.0], total, atol=1e-6)
    assert np.abs(gradients[0.0, 1.0]).max() > 0.1
