import numpy as np
import pytest

from keras_mimo.solvers.length import combined_length
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.solvers.problems import STATIONARY
from tests.solvers.problems import gramian
from tests.solvers.problems import plain
from tests.solvers.problems import scaled


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1e-15, 1, 1e15])
def test_length(scale, mode):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=6).astype("float32")
    rows = (scale * plain(rng, 6)).astype("float32")
    found = compiled(combined_length, mode)(weights, gramian(rows))
    np.testing.assert_allclose(found, np.linalg.norm(weights @ rows), rtol=1e-5)
    assert compiled(combined_length, mode)(0 * weights, gramian(rows)) == 0
    assert compiled(combined_length, mode)(weights, gramian(0 * rows)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_cancels_has_no_length(dtype):
    """And what is a few times longer than that has."""
    epsilon = np.finfo(dtype).eps
    with double_precision():
        for seed, family in enumerate(2 * STATIONARY):
            rng = np.random.default_rng(seed)
            rows = scaled(rng, family(rng, 6), 2 * (seed // 3)).astype(dtype)
            exact = rows.astype("float64")
            # Multipliers of rows whose sum is 0: the last left singular vector.
            weights = np.linalg.svd(exact)[0][:, -1].astype(dtype)
            found = compiled(combined_length)(weights, gramian(rows))
            assert found == 0
            size = abs(weights) @ np.linalg.norm(exact, axis=1)
            visible = 3 * np.sqrt(4 * 6 * epsilon) * size
            rows = np.hstack([rows, np.zeros((6, 1), dtype)])
            first = np.argmax(abs(weights))
            rows[first, -1] = visible / abs(weights[first])
            found = compiled(combined_length)(weights, gramian(rows))
            assert found == pytest.approx(visible, rel=0.1)
