"""Writing a training loop from scratch."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_mimo import BalancedModel
from tests.keras_guides.common import BACKEND
from tests.keras_guides.common import COMBINERS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import assert_same
from tests.keras_guides.common import compiled
from tests.keras_guides.common import descend
from tests.keras_guides.common import options
from tests.keras_guides.common import plain
from tests.keras_guides.common import sgd

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


def loop(model, given):
    """A loop that knows the layers' part of a model only."""
    optimizer, loss_fn = sgd(), keras.losses.MeanSquaredError()
    metric = keras.metrics.MeanAbsoluteError()
    weights = model.trainable_weights
    optimizer.build(weights)

    def loss_of(x, y, y_pred):
        return sum(loss_fn(y[n], y_pred[n]) for n in "ab") + sum(model.losses)

    losses = []
    if BACKEND == "jax":
        import jax

        def loss_and_updates(trainable, others, x, y):
            y_pred, others, added = model.stateless_call(
                trainable, others, x, training=True, return_losses=True
            )
            loss = sum(loss_fn(y[n], y_pred[n]) for n in "ab") + sum(added)
            return loss, (others, y_pred)

        @jax.jit
        def step(state, x, y):
            trainable, others, moments, errors = state
            (loss, (others, y_pred)), gradients = jax.value_and_grad(
                loss_and_updates, has_aux=True
            )(trainable, others, x, y)
            trainable, moments = optimizer.stateless_apply(
                moments, gradients, trainable
            )
            errors = metric.stateless_update_state(errors, y["a"], y_pred["a"])
            return loss, (trainable, others, moments, errors)

        kept = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
            metric.variables,
        )
        state = [[v.value for v in variables] for variables in kept]
        for _ in range(3):
            loss, state = step(state, X, Y)
            losses.append(loss)
        for variables, tensors in zip(kept, state, strict=True):
            for variable, tensor in zip(variables, tensors, strict=True):
                variable.assign(tensor)
    else:
        y_preds = []

        def loss_now(x, y):
            y_preds.append(model(x, training=True))
            return loss_of(x, y, y_preds[-1])

        y = {name: ops.convert_to_tensor(Y[name]) for name in "ab"}
        x = ops.convert_to_tensor(X)
        for _ in range(3):
            losses.append(descend(model, weights, optimizer, loss_now, x, y))
            metric.update_state(y["a"], y_preds[-1]["a"])
    return {"loss": losses, "error": metric.result()}


def regularized(base):
    inputs = keras.Input((4,))
    x = layers.Dense(
        3,
        activation="tanh",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.1),
    )(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.3, seed=1)(x)
    return base(inputs, {name: layers.Dense(1, name=name)(x) for name in "ab"})


def test_a_loop_from_scratch():
    as_keras_does(regularized, loop, None)


@pytest.mark.parametrize("combiner", ["mgda", "famo"])
def test_a_loop_after_training_with_a_combiner(combiner):
    """What the combiner keeps is no part of what the loop trains."""
    expected_model, expected = plain(regularized, loop)
    keras.utils.set_random_seed(1)
    model = regularized(BalancedModel)
    # Seeds are variables too, and no weights.
    start = [(v, ops.convert_to_numpy(v)) for v in model.variables]
    compiled(model, options(combiner)).train_on_batch(X, Y)
    for variable, value in start:
        variable.assign(value)
    logs = loop(model, {})
    assert_same(logs, expected)
    assert_same(model, expected_model)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_calls_without_state(combiner):
    model = regularized(BalancedModel)
    compiled(model, options(combiner)).train_on_batch(X, Y)
    before = model.get_weights()
    state = [
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    ]
    zeros = [ops.zeros_like(v) for v in state[0]]
    outputs, others = model.stateless_call(zeros, state[1], X, training=True)
    assert len(others) == len(model.non_trainable_variables)
    assert_same(outputs, {name: 0 * Y[name] for name in "ab"})
    metrics = [v.value for v in model.metrics_variables]
    loss, (_, _, metrics) = model.stateless_compute_loss(
        *state, metrics, x=X, y=Y, y_pred=outputs, training=False
    )
    expected = sum(np.mean(np.square(Y[name])) for name in "ab")
    expected += float(ops.convert_to_numpy(sum(model.losses)))
    assert_same(loss, expected)
    assert len(metrics) == len(model.metrics_variables)
    assert_same(model.get_weights(), before)
