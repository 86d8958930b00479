import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo import gradients
from keras_mimo.gradients.flat import FlatRows


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, dtype="float32"))


def test_flat_rows_are_zero_where_an_objective_does_not_reach():
    rows = FlatRows(
        [
            [tensor([[1, 2]]), None, tensor([3.0])],
            [None, None, tensor([4.0])],
        ]
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(rows.gramian(gradients.engine().gramian)),
        [[1 + 4 + 9, 12], [12, 16]],
    )
    first, second, third = rows.weighted_sum(tensor([10.0, 1.0]))
    np.testing.assert_array_equal(ops.convert_to_numpy(first), [[10, 20]])
    assert second is None
    np.testing.assert_array_equal(ops.convert_to_numpy(third), [34])


def test_what_no_objective_reaches_has_an_empty_gramian():
    rows = FlatRows([[None, None], [None, None]])
    assert rows.reached == [False, False]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(rows.gramian(gradients.engine().gramian)),
        np.zeros((2, 2)),
    )
    assert rows.weighted_sum(tensor([1.0, 1.0])) == [None, None]
    assert rows.per_coordinate(None) == [None, None]


def test_gramian_keeps_the_precision_of_float32():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 2000)).astype("float32")
    matrix[1] = -matrix[0] * (1 + 1e-4)
    actual = ops.convert_to_numpy(gradients.engine().gramian(tensor(matrix)))
    expected = matrix.astype("float64") @ matrix.astype("float64").T
    norms = np.sqrt(np.diag(expected))
    error = np.abs(actual - expected) / np.outer(norms, norms)
    assert error.max() < 1e-6


@keras.saving.register_keras_serializable(package="keras_mimo_tests")
class Recording(keras_mimo.SumCombiner):
    """Keeps the Gramian that it was given."""

    needs = "gramian"

    def build(self, objective_names):
        super().build(objective_names)
        count = len(objective_names)
        self.seen = self.add_weight(
            name="seen", shape=(count, count), trainable=False
        )

    def call(self, losses, gramian=None, active=None, training=True):
        self.seen.assign(gramian)
        return super().call(losses, gramian, active, training)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_combiner_sees_the_gramian_of_unscaled_gradients(policy):
    """Under loss scaling too: the scale must not leak into the Gramian."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)).astype("float32")
    y = {"a": 2 * x[:, :1], "b": x[:, 1:2]}
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((3,))
        shared = layers.Dense(1, use_bias=False, name="shared")(inputs)
        model = keras_mimo.BalancedModel(
            inputs,
            {
                "a": layers.Activation("linear", dtype="float32", name="a")(
                    shared
                ),
                "b": layers.Rescaling(0.5, dtype="float32", name="b")(shared),
            },
        )
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.SGD(0.01), "mse", combiner=Recording())
    kernel = ops.convert_to_numpy(model.trainable_variables[0]).copy()
    # Loss scaling starts high: the first steps may overflow and be skipped.
    for _ in range(10):
        model.train_on_batch(x, y)
        if int(model.optimizer.iterations) == 1:
            break
    rows = [
        2 * x.T @ (x @ kernel - y["a"]) / 16,
        2 * 0.5 * x.T @ (0.5 * x @ kernel - y["b"]) / 16,
    ]
    expected = np.array([[float((a * b).sum()) for b in rows] for a in rows])
    tolerance = 1e-5 if policy == "float32" else 2e-2
    actual = ops.convert_to_numpy(model.combiner.seen)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_the_weighted_pullback_equals_the_weighted_rows():
    """Variables outside the Gramian get the same update as those inside."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)).astype("float32")
    y = {"a": x[:, :1] ** 2, "b": x.sum(axis=1, keepdims=True)}
    trained = []
    for balanced in (None, ["shared/kernel"]):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((3,))
        shared = layers.Dense(
            4, activation="tanh", kernel_regularizer="l2", name="shared"
        )(inputs)
        model = keras_mimo.BalancedModel(
            inputs,
            {n: layers.Dense(1, name=n)(shared) for n in ("a", "b")},
        )
        combiner = Weighted()
        model.compile(
            keras.optimizers.SGD(0.1),
            "mse",
            combiner=combiner,
            balanced_variables=balanced,
        )
        model.fit(x, y, epochs=3, verbose=0, shuffle=False)
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


class Weighted(keras_mimo.ConstantCombiner):
    needs = "gramian"

    def __init__(self):
        super().__init__([0.3, 2.0])
