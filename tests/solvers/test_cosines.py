import numpy as np
import pytest
from keras import ops

from keras_mimo.solvers.cosines import cosines
from tests.backends import gradient


@pytest.mark.parametrize("scale", [1e-10, 1, 1e10])
def test_values(scale):
    rows = scale * np.array([[3.0, 4], [0, 2], [0, 0], [1, 0]])
    gramian = (rows @ rows.T).astype("float32")
    active = np.array([True, True, True, False])
    tensors = ops.convert_to_tensor(gramian), ops.convert_to_tensor(active)
    matrix, lengths, positive = map(ops.convert_to_numpy, cosines(*tensors))
    expected = np.zeros((4, 4))
    expected[:2, :2] = [[1, 0.8], [0.8, 1]]
    np.testing.assert_allclose(matrix, expected, rtol=1e-6)
    np.testing.assert_allclose(lengths, [5 * scale, 2 * scale, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(positive, [True, True, False, False])


def test_no_gradient_flows_through():
    gramian = np.array([[2.0, 1], [1, 3]], "float32")

    def function(gramian):
        matrix, lengths, _ = cosines(gramian, ops.ones((2,), dtype="bool"))
        return ops.sum(matrix) + ops.sum(lengths)

    assert np.all(gradient(function, gramian) == 0)
