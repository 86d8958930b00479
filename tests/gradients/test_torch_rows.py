import keras
import numpy as np
import pytest

from keras_mimo import gradients
from keras_mimo.gradients.flat import FlatRows

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="rows as PyTorch keeps them"
)

SHAPES = [(3, 4), (5,), (2, 2), (6,), (2, 2), (1,)]


def draw(reach, dtype="float32"):
    """One row for each line of 0 and 1, which say what it reaches."""
    rng = np.random.default_rng(0)
    return [
        [
            keras.ops.convert_to_tensor(rng.normal(size=shape), dtype)
            if there == "1"
            else None
            for shape, there in zip(SHAPES, line, strict=True)
        ]
        for line in reach
    ]


def close(actual, wanted, atol):
    actual, wanted = map(keras.ops.convert_to_numpy, (actual, wanted))
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    "reach",
    [
        ["111111", "111111", "111111"],
        ["111000", "110100", "110010"],
        ["110000", "101011", "000011"],
        ["000000", "111001", "010110"],
        ["100000", "000000", "001000"],
        ["000000", "000000", "000000"],
        ["110001"],
    ],
)
def test_computes_what_flat_rows_do(reach):
    from keras_mimo.gradients.torch_rows import TorchRows

    rows = TorchRows(iter(draw(reach)), len(reach))
    expected = FlatRows(draw(reach))
    assert rows.reached == expected.reached
    product = gradients.engine().gramian
    close(rows.gramian(product), expected.gramian(product), atol=1e-5)
    weights = keras.ops.convert_to_tensor([0.5, -2.0, 3.0][: len(reach)])
    for actual, wanted in zip(
        rows.weighted_sum(weights),
        expected.weighted_sum(weights),
        strict=True,
    ):
        if wanted is None:
            assert actual is None
        else:
            assert actual.shape == wanted.shape
            close(actual, wanted, atol=1e-6)


def test_keeps_float64():
    from keras_mimo.gradients.torch_rows import TorchRows

    rows = TorchRows(draw(["110000", "101000"], "float64"), 2)
    gramian = rows.gramian(gradients.engine().gramian)
    assert keras.backend.standardize_dtype(gramian.dtype) == "float64"


def test_a_row_is_written_before_the_next_is_asked_for():
    from keras_mimo.gradients.torch_rows import TorchRows

    def one_tensor_twice():
        gradient = keras.ops.convert_to_tensor([1.0, 2.0])
        yield [gradient]
        gradient.mul_(3.0)
        yield [gradient]

    gramian = TorchRows(one_tensor_twice(), 2).gramian(
        gradients.engine().gramian
    )
    close(gramian, [[5, 15], [15, 45]], atol=0.0)
