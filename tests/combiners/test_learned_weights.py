"""Combiners whose weights the optimizer of the model learns."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import IMTLLCombiner
from keras_mimo.combiners import Smoothed
from keras_mimo.combiners import UncertaintyCombiner
from tests.backends import gradient

CLASSES = [UncertaintyCombiner, IMTLLCombiner]
every_class = pytest.mark.parametrize("cls", CLASSES)
LOSSES = np.array([0.62, 1.65, 0.3])
STATE = np.array([0.5, -0.25, 0.1])
RATE = 0.1


def by_hand(cls, state, losses):
    """Value, its gradients in the losses, which are weights, and the state."""
    if cls is UncertaintyCombiner:
        weights = np.exp(-state) / 2
        return (
            np.sum(weights * losses + state / 2),
            weights,
            (0.5 - weights * losses),
        )
    weights = np.exp(state)
    return np.sum(weights * losses - state), weights, weights * losses - 1


def array(x):
    return ops.convert_to_numpy(x).copy()


def learnt(combiner):
    (variable,) = combiner.trainable_variables
    return variable


@every_class
@pytest.mark.parametrize(
    "mask", [[True, True, True], [True, False, True], [False, False, False]]
)
def test_gradients(cls, mask):
    mask = np.array(mask)
    combiner = cls()
    combiner.build(["a", "b", "c"])
    value, weights, slope = by_hand(cls, STATE[mask], LOSSES[mask])
    losses = np.where(mask, LOSSES, np.nan).astype("float32")
    active = ops.convert_to_tensor(mask)

    def full(values):
        return np.bincount(np.flatnonzero(mask), values, 3)

    losses = ops.convert_to_tensor(losses)
    learnt(combiner).assign(STATE)
    weighed = array(combiner(losses, active=active))
    np.testing.assert_allclose(weighed, full(weights), rtol=1e-5)
    found = array(combiner.scalarize(losses, weighed, active))
    np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-7)

    def of_losses(losses):
        return combiner.scalarize(losses, weighed, active)

    def of_state(state):
        with keras.StatelessScope([(learnt(combiner), state)]):
            return combiner.scalarize(losses, weighed, active)

    found = gradient(of_losses, losses)
    np.testing.assert_allclose(found, full(weights), rtol=1e-5)
    found = gradient(of_state, STATE)
    np.testing.assert_allclose(found, full(slope), rtol=1e-5, atol=1e-7)


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, {"a": 2 * x[:, :1], "b": x[:, 1:2] ** 2 - 3}


def model(combiner, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(6, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1)(shared) for name in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    model.compile(optimizer, "mse", combiner=combiner, **options)
    return model


def losses_of(model, x, y):
    predicted = model(x, training=False)
    errors = [array(predicted[n]).astype("float64") - y[n] for n in y]
    return np.mean(np.square(errors), axis=(1, 2))


@every_class
@pytest.mark.parametrize("recompiled", [False, True])
def test_sgd_steps_are_those_by_hand(cls, recompiled):
    """Of several steps: no gradient of the first is left in the second."""
    x, y = data()
    trained = model(None if recompiled else cls())
    if recompiled:
        trained.train_on_batch(x, y)
        optimizer = keras.optimizers.SGD(RATE)
        trained.compile(optimizer, "mse", combiner=cls())
    state = np.zeros(2)
    for _ in range(3):
        losses = losses_of(trained, x, y)
        value, _, slope = by_hand(cls, state, losses)
        logs = trained.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(logs["loss"], value, rtol=1e-5)
        assert np.all(slope != 0)
        state = state - RATE * slope
        found = array(learnt(trained.combiner))
        np.testing.assert_allclose(found, state, rtol=1e-5)
        trained.reset_metrics()


@every_class
def test_no_gradient_is_left_over_in_a_loop_of_ones_own(cls):
    """Where Keras has no occasion to make the state a module's parameter."""
    x, y = data()
    trained = model(cls())
    state = np.zeros(2)
    tensors = keras.tree.map_structure(ops.convert_to_tensor, (x, y))
    # Built here: a step on JAX takes the variables that there are.
    trained.evaluate(x, y, verbose=0)
    trained.optimizer.build(trained.trainable_variables)
    for _ in range(3):
        _, _, slope = by_hand(cls, state, losses_of(trained, x, y))
        step(trained, tensors)
        state = state - RATE * slope
        found = array(learnt(trained.combiner))
        np.testing.assert_allclose(found, state, rtol=1e-5)


def step(trained, batch):
    """One `train_step()`, which is stateless on JAX."""
    if keras.backend.backend() != "jax":
        trained.train_step(batch)
        return
    variables = [
        trained.trainable_variables,
        trained.non_trainable_variables,
        trained.optimizer.variables,
        trained.metrics_variables,
    ]
    state = tuple([v.value for v in kind] for kind in variables)
    _, state = trained.train_step(state, batch)
    for kind, values in zip(variables, state, strict=True):
        for variable, value in zip(kind, values, strict=True):
            variable.assign(value)


def test_a_frozen_model_learns_no_weights():
    x, y = data()
    trained = model(UncertaintyCombiner())
    trained.train_on_batch(x, y)
    trained.trainable = False
    assert trained.trainable_weights == trained.trainable_variables == []


@every_class
def test_the_model_is_updated_with_the_weights(cls):
    """As by the same weights, constant; from a state that is not 0."""
    x, y = data()
    learning = model(cls())
    learning.train_on_batch(x, y)
    learning.train_on_batch(x, y)
    state = array(learnt(learning.combiner))
    assert np.all(np.abs(state) > 0.05)
    _, weights, _ = by_hand(cls, state, np.ones(2))
    fixed = model(keras_mimo.ConstantCombiner(list(weights)))
    fixed.set_weights(learning.get_weights())
    for each in (learning, fixed):
        each.train_on_batch(x, y)
    for a, b in zip(learning.get_weights(), fixed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@every_class
def test_the_state_is_the_models_and_the_optimizers(cls):
    x, y = data()
    trained = model(cls(), keras.optimizers.Adam(0.01))
    trained.fit(x, y, epochs=2, verbose=0)
    variable = learnt(trained.combiner)
    for variables in (
        trained.trainable_variables,
        trained.trainable_weights,
        trained.optimizer._trainable_variables,
    ):
        assert sum(v is variable for v in variables) == 1
    assert all(v is not variable for v in trained.non_trainable_variables)
    # No part of the network.
    assert all(v is not variable for v in trained.weights)
    moments = [v for v in trained.optimizer.variables if "log_" in v.path]
    assert [v.shape for v in moments] == [(2,), (2,)]
    assert all(np.all(array(v) != 0) for v in moments)


@every_class
def test_evaluation_leaves_the_state_alone(cls):
    x, y = data()
    trained = model(cls())
    trained.train_on_batch(x, y)
    before = array(learnt(trained.combiner))
    value, _, _ = by_hand(cls, before, losses_of(trained, x, y))
    found = trained.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(found, value, rtol=1e-5)
    trained.test_on_batch(x, y)
    np.testing.assert_array_equal(array(learnt(trained.combiner)), before)
    history = trained.fit(
        x, y, validation_data=(x, y), batch_size=16, verbose=0
    ).history
    after = array(learnt(trained.combiner))
    value, _, _ = by_hand(cls, after, losses_of(trained, x, y))
    np.testing.assert_allclose(history["val_loss"], [value], rtol=1e-5)


@every_class
def test_the_weights_approach_those_of_the_least_scalar(cls):
    """`1 / l`, or half of that, for losses that stay where they are."""
    x, y = data()
    trained = model(cls(), keras.optimizers.SGD(0.2))
    for layer in trained.layers:
        layer.trainable = False
    losses = losses_of(trained, x, y)
    x, y = keras.tree.map_structure(lambda a: np.tile(a, (150, 1)), (x, y))
    trained.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    factor = 0.5 if cls is UncertaintyCombiner else 1.0
    weights = array(trained.combiner(np.ones(2), training=False))
    np.testing.assert_allclose(weights, factor / losses, rtol=1e-3)


@every_class
def test_no_wrapper_takes_one(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} learns its own"):
        Smoothed(cls()).build(["a", "b"])
    x, y = data()
    with pytest.raises(ValueError, match=f"{cls.__name__} learns its own"):
        model(Smoothed(cls())).fit(x, y, verbose=0)
