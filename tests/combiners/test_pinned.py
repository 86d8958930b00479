"""Weights of small problems, from papers and from solvers in NumPy."""

import functools
import itertools

import keras
import numpy as np
import pytest

from keras_mimo.combiners import AlignedMTLCombiner
from keras_mimo.combiners import CAGradCombiner
from keras_mimo.combiners import ConFIGCombiner
from keras_mimo.combiners import DualProjCombiner
from keras_mimo.combiners import FairGradCombiner
from keras_mimo.combiners import IMTLGCombiner
from keras_mimo.combiners import KrumCombiner
from keras_mimo.combiners import MeanCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import NashMTLCombiner
from keras_mimo.combiners import PCDCombiner
from keras_mimo.combiners import PCGradCombiner
from keras_mimo.combiners import UPGradCombiner
from tests.backends import compiled
from tests.backends import double_precision
from tests.oracles import J2
from tests.oracles import J3
from tests.quick import quick
from tests.solvers.problems import around_zero
from tests.solvers.problems import gramian

CAGRAD = {"c": 0.5, "rescale": None}
UNCLIPPED = {"max_norm": None}

# Combiner, its arguments, weights (None where not pinned), direction.
CASES = {
    "J2": [
        (MGDACombiner, {}, [0.6, 0.4], [0, 1, 1]),
        (
            DualProjCombiner,
            {},
            [0.6111111, 0.5],
            [0.5555556, 1.1111111, 1.1111111],
        ),
        (
            UPGradCombiner,
            {},
            [1.1111111, 0.7894737],
            [0.292398, 1.900585, 1.900585],
        ),
        (
            PCGradCombiner,
            {},
            [2.2222222, 1.5789474],
            [0.584795, 3.801170, 3.801170],
        ),
        (IMTLGCombiner, {}, [0.592330, 0.407670], [0.076697, 1, 1]),
        (
            AlignedMTLCombiner,
            {},
            [0.559072, 0.408261],
            [0.213279, 0.967333, 0.967333],
        ),
        (
            AlignedMTLCombiner,
            {"scale": "rmse"},
            [1.510866, 1.103306],
            [0.576376, 2.614172, 2.614172],
        ),
        (
            CAGradCombiner,
            CAGRAD,
            [0.704124, 0.5],
            [0.183504, 1.204124, 1.204124],
        ),
        (
            NashMTLCombiner,
            UNCLIPPED,
            [0.591461, 0.407071],
            [0.076584, 0.998533, 0.998533],
        ),
        (NashMTLCombiner, {}, None, [0.054153, 0.706069, 0.706069]),
        (ConFIGCombiner, {}, None, [0.158809, 2.070607, 2.070607]),
        # As long as the first, with a cosine to the second that is tau before.
        (
            PCDCombiner,
            {"tau": 0.1},
            [1.818489, 1.177967],
            [-0.206158, 2.996456, 2.996456],
        ),
        # alpha = 1 is Nash-MTL without a limit.
        (
            FairGradCombiner,
            {},
            [0.591461, 0.407071],
            [0.076584, 0.998533, 0.998533],
        ),
    ],
    "J3": [
        (MeanCombiner, {}, [1 / 3] * 3, [0, -1 / 3, 2 / 3, 1]),
        (DualProjCombiner, {}, [1 / 3] * 3, [0, -1 / 3, 2 / 3, 1]),
        (
            MGDACombiner,
            {},
            [0.396579, 0.423017, 0.180404],
            [0.163297, 0.304821, 0.576983, 0.783826],
        ),
        (
            UPGradCombiner,
            {},
            [0.733130, 0.770050, 0.482729],
            [0.176563, 0.091914, 1.215859, 1.735507],
        ),
        (
            IMTLGCombiner,
            {},
            [0.392175, 0.414737, 0.193088],
            [0.153962, 0.250212, 0.585263, 0.800913],
        ),
        (
            AlignedMTLCombiner,
            {},
            [0.345018, 0.361174, 0.211072],
            [0.101633, 0.089133, 0.556089, 0.783317],
        ),
        (
            CAGradCombiner,
            CAGRAD,
            [0.550151, 0.586828, 0.333333],
            [0.143464, 0.173655, 0.883484, 1.253494],
        ),
        (
            NashMTLCombiner,
            UNCLIPPED,
            [0.630376, 0.666647, 0.358761],
            [0.199073, 0.257011, 0.989137, 1.384169],
        ),
        (
            ConFIGCombiner,
            {},
            None,
            [0.478017, 0.776852, 1.817108, 2.486653],
        ),
        # Squared distances 31, 29 and 28: the last two are the closest.
        (
            KrumCombiner,
            {"byzantine": 0, "selected": 2},
            [0, 0.5, 0.5],
            [-1.5, -0.5, 0.5, 1.5],
        ),
    ],
}
ROWS = {"J2": J2, "J3": J3}


def numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("dtype", quick(["float32"], ["float32", "float64"]))
@pytest.mark.parametrize(
    "name, index",
    [
        pytest.param(name, index, id=f"{name}-{case[0].__name__}")
        for name, cases in CASES.items()
        for index, case in enumerate(cases)
    ],
)
def test_pinned(name, index, dtype):
    _, _, weights, direction = CASES[name][index]
    result = solved(name, dtype)[index]
    assert result.dtype == dtype
    np.testing.assert_allclose(result @ ROWS[name], direction, atol=4e-6)
    if weights is not None:
        np.testing.assert_allclose(result, weights, atol=2e-6)


@functools.cache
def solved(name, dtype):
    """The weights of all cases for the same rows, compiled at once."""
    rows = ROWS[name]
    made = [cls(**arguments) for cls, arguments, _, _ in CASES[name]]
    for combiner in made:
        combiner.build(["a", "b", "c"][: len(rows)])

    def solve(losses, gramian):
        with keras.StatelessScope():
            weights = [c(losses, gramian, training=False) for c in made]
        return keras.ops.stack(weights)

    losses = np.ones(len(rows), dtype)
    with double_precision():
        return compiled(solve)(losses, gramian(rows, dtype))


def test_aligned_mtl_in_between():
    """Eigenvalues of three orthogonal rows are their squared lengths."""
    rows = np.diag([1.0, 2.0, 4.0])
    losses = np.ones(3)
    for scale, length in (
        ("min", 1),
        ("median", 2),
        ("rmse", np.sqrt(21 / 3)),
    ):
        weights = AlignedMTLCombiner(scale)(losses, rows @ rows)
        np.testing.assert_allclose(
            numpy(weights) @ rows, [length / 3] * 3, rtol=1e-5
        )
    # Of two, the lower one.
    active = [True, False, True]
    weights = AlignedMTLCombiner("median")(losses, rows @ rows, active)
    np.testing.assert_allclose(
        numpy(weights) @ rows, [1 / 2, 0, 1 / 2], rtol=1e-5
    )


def copies_of_pcgrad(rows, i):
    """What becomes of a gradient, in each order: the definition, in NumPy."""
    others = [j for j in range(len(rows)) if j != i]
    for order in itertools.permutations(others):
        copy = rows[i].copy()
        for j in order:
            product = min(copy @ rows[j], 0)
            copy -= product / (rows[j] @ rows[j]) * rows[j]
        yield copy


@pytest.mark.parametrize("count", [3, 4])
def test_pcgrad_over_all_orders(count):
    rows = around_zero(np.random.default_rng(0), count)
    arguments = np.ones(count, "float32"), gramian(rows, "float32")
    combiner = PCGradCombiner(seed=0)
    weights = numpy(combiner(*arguments, training=False))
    copies = [list(copies_of_pcgrad(rows, i)) for i in range(count)]
    expected = sum(np.mean(c, axis=0) for c in copies)
    np.testing.assert_allclose(weights @ rows, expected, atol=1e-5)
    # In training, one of them for each gradient.
    sums = [sum(choice) for choice in itertools.product(*copies)]
    weights = numpy(combiner(*arguments))
    distances = np.linalg.norm(weights @ rows - sums, axis=1)
    assert np.min(distances) <= 1e-5
    assert np.max(distances) > 0.1
