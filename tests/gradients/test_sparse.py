"""Gradients that are zero outside of some rows, against dense ones."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_mimo import gradients
from keras_mimo.gradients.flat import FlatRows
from keras_mimo.gradients.sparse import SparseGradient
from keras_mimo.gradients.sparse import dense

SHAPE = (7, 2)


def pair(rows, seed=0, shape=SHAPE):
    """A sparse gradient, and the same as an array."""
    rows = np.asarray(rows, "int32")
    values = np.random.default_rng(seed).normal(size=(len(rows), *shape[1:]))
    array = np.zeros(shape)
    np.add.at(array, rows, values)
    convert = ops.convert_to_tensor
    return SparseGradient.summed(
        convert(values, "float32"), convert(rows, "int32"), shape
    ), array


def assert_equal(gradient, array):
    actual = ops.convert_to_numpy(dense(gradient))
    np.testing.assert_allclose(actual, array, atol=1e-6)


# More rows than the table has, too, and none.
ROWS = [[3], [1, 3, 3, 5, 1, 1], [6, 6], [0, 1, 2, 3, 4, 5, 6, 0, 6, 6, 2]]
if keras.backend.backend() != "torch":
    # Whose sum of no segments fails in Keras; its gradients are dense.
    ROWS.append([])


@pytest.mark.parametrize("rows", ROWS)
def test_a_row_that_is_there_again_has_no_second_value(rows):
    gradient, array = pair(rows)
    assert_equal(gradient, array)
    # As many as may be needed, so that what squares them is right.
    assert gradient.rows.shape[0] == min(len(rows), SHAPE[0])
    squares, _ = pair(rows)
    squares.values = squares.values * squares.values
    assert_equal(squares, array**2)


def test_variables_of_any_rank():
    for shape in [(7,), (7, 2, 3)]:
        assert_equal(*pair([4, 2, 4], shape=shape))


def test_sums_and_products():
    first, a = pair([1, 3, 3])
    second, b = pair([3, 0, 5, 5], seed=1)
    assert_equal(first * 2.0, 2 * a)
    total = first + second
    assert_equal(total, a + b)
    total.values = total.values * total.values
    assert_equal(total, (a + b) ** 2)


def gramian(rows):
    return ops.convert_to_numpy(rows.gramian(gradients.engine().gramian))


@pytest.mark.parametrize(
    "columns",
    [
        [[1, 3, 3], None],
        [[1, 3, 3], [0, 3, 5, 5, 3]],
        [[1, 3, 3], [1, 3, 3], [2, 6]],
        [[0, 1, 2, 3, 4, 5, 6, 6], [6, 6, 6, 0]],
    ],
)
def test_rows_of_sparse_gradients_are_those_of_dense_ones(columns):
    pairs = [
        pair(rows, seed) if rows is not None else (None, None)
        for seed, rows in enumerate(columns)
    ]
    rows = FlatRows([[gradient] for gradient, _ in pairs])
    filled = [np.zeros(SHAPE) if a is None else a for _, a in pairs]
    matrix = np.stack([array.ravel() for array in filled])
    np.testing.assert_allclose(gramian(rows), matrix @ matrix.T, atol=1e-5)
    weights = np.arange(1, len(columns) + 1)
    (total,) = rows.weighted_sum(ops.convert_to_tensor(weights, "float32"))
    assert isinstance(total, SparseGradient)
    expected = sum(w * array for w, array in zip(weights, filled, strict=True))
    assert_equal(total, expected)


def test_beside_a_dense_gradient_a_sparse_one_is_dense():
    sparse, a = pair([1, 3, 3])
    b = np.random.default_rng(1).normal(size=SHAPE)
    other = ops.convert_to_tensor(b, "float32")
    rows = FlatRows([[sparse], [other]])
    matrix = np.stack([a.ravel(), b.ravel()])
    np.testing.assert_allclose(gramian(rows), matrix @ matrix.T, atol=1e-5)
    (total,) = rows.weighted_sum(ops.ones((2,)))
    assert not isinstance(total, SparseGradient)
    assert_equal(total, a + b)
