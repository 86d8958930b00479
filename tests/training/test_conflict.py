"""`conflict`: the share of pairs of gradients with a negative product."""

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.training.compiled import conflict
from tests.backends import compiled

# Of six pairs one is opposed, one agrees, and four are orthogonal.
ROWS = np.array([[1, 0, 0], [-1, 2, 0], [0, 1, 0], [0, 0, 0]], "float32")


@pytest.mark.parametrize(
    "active, expected",
    [
        ([True, True, True, True], 1 / 6),
        ([True, True, False, False], 1.0),
        ([True, False, True, True], 0.0),
        ([True, False, False, False], 0.0),
        ([False, False, False, False], 0.0),
    ],
)
def test_only_negative_products_count(active, expected):
    share = compiled(_conflict)(ROWS @ ROWS.T, np.array(active))
    np.testing.assert_allclose(share, expected, rtol=1e-6)


def _conflict(gramian, active):
    return conflict([gramian], [active])


def test_blocks_count_their_pairs_together():
    gramian = keras.ops.convert_to_tensor(ROWS @ ROWS.T)
    actives = [
        keras.ops.convert_to_tensor(np.array(a))
        for a in ([True] * 4, [True, True, False, False])
    ]
    share = conflict([gramian, gramian], actives)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(share), 2 / 7, rtol=1e-6
    )


def test_what_a_model_logs():
    """Two objectives pull one kernel apart, and a third has its own."""
    inputs = keras.Input((1,))
    zeros = dict(use_bias=False, kernel_initializer="zeros")
    pulled = keras.layers.Dense(1, **zeros)(inputs)
    outputs = {
        "up": keras.layers.Identity()(pulled),
        "down": keras.layers.Identity()(pulled),
        "alone": keras.layers.Dense(1, **zeros)(inputs),
    }
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.0), "mse", combiner=keras_mimo.MGDACombiner()
    )
    x = np.ones((4, 1), "float32")
    y = {"up": x, "down": -x, "alone": x}
    logs = model.fit(x, y, verbose=0).history
    np.testing.assert_allclose(logs["conflict"], 1 / 3, rtol=1e-6)
