"""Beside TorchJD: the same update where it is right, ours where it is not.

Everything is in float64, and conditions are checked in NumPy. That TorchJD
fails somewhere is asserted too: a version that no longer does is to be told.
"""

import itertools

import keras
import numpy as np
import pytest
import torch

from keras_mimo import combiners
from keras_mimo.solvers.dual_cone import dual_cone
from tests.backends import compiled
from tests.backends import double_precision
from tests.oracles import J2
from tests.oracles import J3
from tests.oracles import min_norm_point
from tests.solvers.problems import plain
from tests.solvers.problems import scaled

pytest.importorskip("torchjd", reason="not installed on Python 3.13")
from torchjd import aggregation
from torchjd.linalg import QuadprogProjector

# What CVXPY says of how TorchJD writes Nash-MTL down.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You are solving:UserWarning"),
]

EPSILON = np.finfo("float64").eps
# A condition holds, up to rounding of well-conditioned problems.
EXACT = 1e-10


@pytest.fixture(autouse=True)
def float64():
    with double_precision():
        yield


def theirs(aggregator, rows):
    return aggregator(torch.tensor(rows)).numpy()


def weigher(combiner, count):
    """Function from rows, and which are active, to weights."""
    combiner.build([f"objective_{k}" for k in range(count)])

    def weigh(losses, gramian, active):
        with keras.StatelessScope():
            return combiner(losses, gramian, active, training=False)

    def call(rows, active=None):
        active = np.ones(count, bool) if active is None else np.array(active)
        losses = np.ones(count, rows.dtype)
        return compiled(weigh)(losses, rows @ rows.T, active)

    return call


def weights_of(combiner, rows, active=None):
    return weigher(combiner, len(rows))(rows, active)


def well_conditioned(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 20))
    assert np.linalg.cond(rows) < 5
    return rows


def projector():
    """Without the 1e-4 that is added to the Gramian by default."""
    return QuadprogProjector(norm_eps=0.0, reg_eps=0.0)


def constants(count):
    return np.linspace(-1, 2, count)


# Ours and theirs for K objectives, and how far theirs is from its own optimum,
# relative to the update: rounding, where not said otherwise.
PAIRS = {
    "UPGrad": (
        lambda _: combiners.UPGradCombiner(),
        lambda _: aggregation.UPGrad(projector=projector()),
        1e-13,
    ),
    "DualProj": (
        lambda _: combiners.DualProjCombiner(),
        lambda _: aggregation.DualProj(projector=projector()),
        1e-13,
    ),
    # Clarabel stops 1e-8 from the optimal value: the root of it in the point.
    "CAGrad .4": (
        lambda _: combiners.CAGradCombiner(0.4, rescale=None),
        lambda _: aggregation.CAGrad(c=0.4),
        2e-4,
    ),
    "CAGrad 1": (
        lambda _: combiners.CAGradCombiner(1.0, rescale=None),
        lambda _: aggregation.CAGrad(c=1.0),
        2e-4,
    ),
    # It stops where a step moves the weights by 1e-6.
    "Nash-MTL": (
        lambda _: combiners.NashMTLCombiner(),
        lambda k: aggregation.NashMTL(n_tasks=k),
        1e-6,
    ),
    # SciPy's default tolerances are 1e-8.
    "FairGrad 1": (
        lambda _: combiners.FairGradCombiner(1.0),
        lambda _: aggregation.FairGrad(alpha=1.0),
        1e-8,
    ),
    "FairGrad 2": (
        lambda _: combiners.FairGradCombiner(2.0),
        lambda _: aggregation.FairGrad(alpha=2.0),
        1e-8,
    ),
    "IMTL-G": (
        lambda _: combiners.IMTLGCombiner(),
        lambda _: aggregation.IMTLG(),
        1e-13,
    ),
    "AlignedMTL min": (
        lambda _: combiners.AlignedMTLCombiner("min"),
        lambda _: aggregation.AlignedMTL(scale_mode="min"),
        1e-13,
    ),
    "AlignedMTL median": (
        lambda _: combiners.AlignedMTLCombiner("median"),
        lambda _: aggregation.AlignedMTL(scale_mode="median"),
        1e-13,
    ),
    "AlignedMTL rmse": (
        lambda _: combiners.AlignedMTLCombiner("rmse"),
        lambda _: aggregation.AlignedMTL(scale_mode="rmse"),
        1e-13,
    ),
    "ConFIG": (
        lambda _: combiners.ConFIGCombiner(),
        lambda _: aggregation.ConFIG(),
        1e-13,
    ),
    # One neighbour is counted: of more, it sums distances and not squares.
    "Krum": (
        lambda k: combiners.KrumCombiner(byzantine=k - 3, selected=2),
        lambda k: aggregation.Krum(n_byzantine=k - 3, n_selected=2),
        1e-15,
    ),
    "Mean": (
        lambda _: combiners.MeanCombiner(),
        lambda _: aggregation.Mean(),
        1e-15,
    ),
    "Sum": (
        lambda _: combiners.SumCombiner(),
        lambda _: aggregation.Sum(),
        1e-15,
    ),
    "Constant": (
        lambda k: combiners.ConstantCombiner(list(constants(k))),
        lambda k: aggregation.Constant(torch.tensor(constants(k))),
        1e-15,
    ),
}
CASES = [
    pytest.param(
        *pair,
        count,
        id=f"{name}-{count}",
        marks=[] if count == 5 else pytest.mark.slow,
    )
    for name, pair in PAIRS.items()
    for count in (2, 3, 5, 8)
    if name != "Krum" or count > 3
]


@pytest.mark.parametrize("own, other, tolerance, count", CASES)
def test_same_update(own, other, tolerance, count):
    weigh = weigher(own(count), count)
    for seed in range(4):
        rows = well_conditioned(count, seed)
        expected = theirs(other(count), rows)
        difference = np.linalg.norm(weigh(rows) @ rows - expected)
        assert difference <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_same_update_of_mgda(count):
    """As close as its duality gap says that it is to the shortest vector."""
    weigh = weigher(combiners.MGDACombiner(), count)
    for seed in range(4):
        rows = well_conditioned(count, seed)
        aggregator = aggregation.MGDA(epsilon=1e-9, max_iters=1000)
        expected = theirs(aggregator, rows)
        # ||d - d*||^2 <= d.d - d.d*, and d* is in the hull of the rows.
        gap = expected @ expected - np.min(rows @ expected)
        bound = np.sqrt(max(gap, 0)) + 1e-13 * np.linalg.norm(expected)
        assert bound <= 0.15 * np.linalg.norm(expected)
        assert np.linalg.norm(weigh(rows) @ rows - expected) <= bound


@pytest.mark.parametrize("count", [2, 3, 4])
def test_same_update_of_pcgrad(count, monkeypatch):
    """The mean over the orders, each of which TorchJD is made to draw."""
    weigh = weigher(combiners.PCGradCombiner(), count)
    for seed in range(4):
        rows = well_conditioned(count, seed)
        updates = []
        for order in itertools.permutations(range(count)):
            draw = torch.tensor(order)
            monkeypatch.setattr(torch, "randperm", lambda _, draw=draw: draw)
            updates.append(theirs(aggregation.PCGrad(), rows))
        expected = np.mean(updates, axis=0)
        difference = np.linalg.norm(weigh(rows) @ rows - expected)
        assert difference <= 1e-13 * np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_same_update_of_pcd(count, tau):
    """Over several steps: both keep averages of the lengths."""
    combiner = combiners.PCDCombiner(tau=tau, beta=0.9)
    other = aggregation.PCD(tau=tau, beta=0.9, eps=0.0)
    worst = []
    for seed in range(6):
        rows = well_conditioned(count, seed)
        rows = rows * np.random.default_rng(seed).uniform(0.5, 2, (count, 1))
        expected = theirs(other, rows)
        weights = combiner(np.ones(count), rows @ rows.T)
        update = keras.ops.convert_to_numpy(weights) @ rows
        # Ours keeps its averages in float32.
        tolerance = 1e-6 * np.linalg.norm(expected)
        assert np.linalg.norm(update - expected) <= tolerance
        worst.append(cosine(rows, rows[0]))
    # The first gradient alone would not do.
    assert np.median(worst) < 0


@pytest.mark.parametrize("warmup", [1, 3])
def test_same_weights_of_excess_mtl(warmup):
    """Without warm-up, theirs has one step that is not divided by the first."""
    combiner = combiners.ExcessMTLCombiner(0.5, warmup)
    combiner.row_sizes = (20,)
    combiner.build(["a", "b", "c"])
    other = aggregation.ExcessMTLWeighting(0.5, n_warmup_steps=warmup)
    for seed in range(6):
        # It adds 1e-7 to squares, of which it takes the root.
        rows = 1e3 * well_conditioned(3, seed) * [[1], [3], [0.5 + seed]]
        expected = other(torch.tensor(rows)).numpy()
        (seen,), _ = combiner.show([rows])
        gramian = seen @ keras.ops.transpose(seen)
        found = keras.ops.convert_to_numpy(combiner(np.ones(3), gramian))
        # Ours keeps its state in float32.
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1


def test_same_update_of_gradvac():
    """Of two there is one order, so that the averages of cosines agree."""
    combiner = combiners.GradVacCombiner(beta=0.5)
    # It adds 1e-8 to lengths; our averages are kept in float32.
    aggregator = aggregation.GradVac(beta=0.5)
    for seed in range(4):
        rows = well_conditioned(2, seed)
        expected = theirs(aggregator, rows)
        weights = combiner(np.ones(2), rows @ rows.T, training=True)
        update = keras.ops.convert_to_numpy(weights) @ rows
        tolerance = 1e-6 * np.linalg.norm(expected)
        assert np.linalg.norm(update - expected) <= tolerance


# From here on: where TorchJD is wrong.


def cosine(rows, update):
    """The worst of those with the update."""
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(update)
    return np.min(rows @ update / lengths)


def projection_residual(rows, starts, weights):
    """How far each `z' J` is from the projection of `u' J`.

    The largest violation of `z >= u`, `G z >= 0` and `(z - u)' G z == 0` in
    the unit vectors, relative to the size of the terms of `z' J`.
    """
    lengths = np.linalg.norm(rows, axis=1)
    violations = []
    for u, z in zip(starts, weights, strict=True):
        size = np.sum(z * lengths)
        added = (z - u) * lengths / size
        slack = rows @ (z @ rows) / lengths / size
        violations += [-np.min(added), -np.min(slack), abs(added @ slack)]
    return max(violations)


def projections(rows, starts):
    """Weights of the projections, by ours and by TorchJD's solver."""
    gramian = rows @ rows.T
    active = np.ones(len(rows), bool)
    own = compiled(dual_cone)(gramian, starts, active)
    other = QuadprogProjector()(torch.tensor(starts), torch.tensor(gramian))
    return own, other.numpy()


PROJECTIONS = pytest.mark.parametrize(
    "own, other, starts_of",
    [
        pytest.param(
            combiners.UPGradCombiner,
            aggregation.UPGrad,
            lambda count: np.eye(count) / count,
            id="UPGrad",
        ),
        pytest.param(
            combiners.DualProjCombiner,
            aggregation.DualProj,
            lambda count: np.ones((1, count)) / count,
            id="DualProj",
        ),
    ],
)


def assert_projects(weigh, rows, starts, weights):
    """Each projection is one, and their sum is the combiner's update."""
    assert projection_residual(rows, starts, weights) <= EXACT
    update = weigh(rows) @ rows
    expected = np.sum(weights, axis=0) @ rows
    np.testing.assert_allclose(update, expected, rtol=1e-9)
    assert cosine(rows, update) >= -EXACT


@pytest.mark.slow
@PROJECTIONS
def test_projections_of_short_gradients(own, other, starts_of):
    """Below a length of .01, TorchJD's are the mean, whatever conflicts."""
    rows = 1e-3 * J2
    update = theirs(other(), rows)
    np.testing.assert_allclose(update, np.mean(rows, axis=0), rtol=1e-12)
    assert cosine(rows, update) < -0.2

    starts = starts_of(2)
    weights, their_weights = projections(rows, starts)
    assert projection_residual(rows, starts, their_weights) > 0.05
    assert_projects(weigher(own(), 2), rows, starts, weights)


@pytest.mark.slow
@PROJECTIONS
def test_projections_of_short_and_long_gradients(own, other, starts_of):
    """Row scales of 10 ** +-2: TorchJD's 1e-4 is as large as the short ones."""
    rng = np.random.default_rng(0)
    trials = [scaled(rng, plain(rng, 8), 2) for _ in range(10)]
    cosines = [cosine(rows, theirs(other(), rows)) for rows in trials]
    assert np.median(cosines) < -1e-2
    assert min(cosines) < -0.2

    starts = starts_of(8)
    weigh = weigher(own(), 8)
    residuals = []
    for rows in trials:
        weights, their_weights = projections(rows, starts)
        residuals.append(projection_residual(rows, starts, their_weights))
        assert_projects(weigh, rows, starts, weights)
    assert np.median(residuals) > 1e-3


def assert_conflict_averse(rows, weights, radius):
    """Optimal: the dual problem has the same value at the weights."""
    mean = np.mean(rows, axis=0)
    update = weights @ rows
    limit = radius * np.linalg.norm(mean)
    size = np.max(np.linalg.norm(rows, axis=1)) * np.linalg.norm(update)
    assert np.linalg.norm(update - mean) <= limit * (1 + EXACT)
    added = weights - 1 / len(rows)
    assert np.min(added) >= -EXACT
    worst = added @ rows / np.sum(added)
    bound = worst @ mean + limit * np.linalg.norm(worst)
    assert abs(bound - np.min(rows @ update)) <= EXACT * size


@pytest.mark.slow
def test_cagrad_of_short_gradients():
    """Below a length of .01 TorchJD's update is 0, far from the mean."""
    rows = 1e-3 * J2
    np.testing.assert_array_equal(theirs(aggregation.CAGrad(c=0.5), rows), 0)
    combiner = combiners.CAGradCombiner(0.5, rescale=None)
    assert_conflict_averse(rows, weights_of(combiner, rows), 0.5)


# An absent objective is a row of zeros to TorchJD, which has no mask.
ABSENT = np.vstack([J3, np.zeros(4)])
PRESENT = [True, True, True, False]


@pytest.mark.slow
def test_cagrad_of_an_absent_objective():
    """TorchJD's update is 0, which is outside of the ball for any c < 1."""
    np.testing.assert_array_equal(theirs(aggregation.CAGrad(c=0.5), ABSENT), 0)
    combiner = combiners.CAGradCombiner(0.5, rescale=None)
    weights = weights_of(combiner, ABSENT, PRESENT)
    assert weights[3] == 0
    assert_conflict_averse(J3, weights[:3], 0.5)


def assert_shortest(rows, weights):
    """`g_k . d >= ||d||^2`, up to the rounding of the Gramian."""
    update = weights @ rows
    lengths = np.linalg.norm(rows, axis=1)
    rounding = 4 * len(rows) * EPSILON * lengths * (weights @ lengths)
    assert np.all(weights >= 0)
    assert abs(np.sum(weights) - 1) <= 16 * EPSILON
    assert np.all(rows @ update >= update @ update - rounding)


@pytest.mark.slow
def test_mgda_of_an_absent_objective():
    """TorchJD's update is 0, though those present can all improve."""
    np.testing.assert_array_equal(theirs(aggregation.MGDA(), ABSENT), 0)
    weights = weights_of(combiners.MGDACombiner(), ABSENT, PRESENT)
    assert weights[3] == 0
    assert_shortest(J3, weights[:3])
    assert np.min(J3 @ (weights[:3] @ J3)) > 0.5
    np.testing.assert_allclose(weights @ ABSENT, min_norm_point(J3), rtol=1e-9)


def opposed_pair(rng, count):
    rows = rng.normal(size=(count, 20))
    rows[1] = -rows[0] + 1e-2 * rng.normal(size=20)
    return rows


def short_and_long(rng, count):
    return scaled(rng, rng.normal(size=(count, 20)), 2)


@pytest.mark.parametrize(
    "problem, count, share",
    [
        (opposed_pair, 3, 0.9),
        (opposed_pair, 8, 0.9),
        (short_and_long, 8, 0.5),
        (short_and_long, 16, 0.9),
    ],
)
def test_mgda_conflicts(problem, count, share):
    """The share of trials in which TorchJD's update makes something worse."""
    weigh = weigher(combiners.MGDACombiner(), count)
    conflicts = []
    for seed in range(20):
        rows = problem(np.random.default_rng(seed), count)
        update = theirs(aggregation.MGDA(), rows)
        conflicts.append(cosine(rows, update) < -1e-3)
        weights = weigh(rows)
        assert_shortest(rows, weights)
        assert cosine(rows, weights @ rows) > 0
    assert np.mean(conflicts) >= share


def bargain(rows, weights):
    """`a * (G a)`, which is 1 for all objectives at the solution."""
    return weights * (rows @ (weights @ rows))


@pytest.mark.slow
def test_nash_mtl_where_the_solver_of_the_other_fails():
    """TorchJD catches that and goes on, with the weights that it began with."""
    rows = well_conditioned(8, 6)
    other = aggregation.NashMTL(n_tasks=8, max_norm=0.0).weighting
    their_weights = other(torch.tensor(rows)).numpy()
    np.testing.assert_allclose(their_weights, their_weights[0], rtol=1e-6)
    assert np.min(bargain(rows, their_weights)) < 0
    weights = weights_of(combiners.NashMTLCombiner(max_norm=None), rows)
    np.testing.assert_allclose(bargain(rows, weights), 1, rtol=EXACT)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning:cvxpy")
def test_nash_mtl_of_an_absent_objective():
    """The same: TorchJD's update is the sum."""
    other = aggregation.NashMTL(n_tasks=4, max_norm=0.0).weighting
    their_weights = other(torch.tensor(ABSENT)).numpy()
    np.testing.assert_array_equal(their_weights, 1)
    products = bargain(J3, their_weights[:3])
    assert np.max(products) > 10 * np.min(products)
    combiner = combiners.NashMTLCombiner(max_norm=None)
    weights = weights_of(combiner, ABSENT, PRESENT)
    assert weights[3] == 0
    np.testing.assert_allclose(bargain(J3, weights[:3]), 1, rtol=EXACT)


@pytest.mark.slow
def test_fairgrad_of_short_gradients():
    """SciPy's absolute tolerance ends TorchJD's search far from `1 / a`."""
    rows = 1e-3 * J3
    other = aggregation.FairGrad(alpha=1.0).gramian_weighting
    their_weights = other(torch.tensor(rows @ rows.T)).numpy()
    assert np.max(abs(bargain(rows, their_weights) - 1)) > 0.1
    weights = weights_of(combiners.FairGradCombiner(1.0), rows)
    np.testing.assert_allclose(bargain(rows, weights), 1, rtol=EXACT)


@pytest.mark.slow
def test_krum_sums_squared_distances():
    """TorchJD sums distances, and chooses another gradient than the paper."""
    rows = np.array([[-1.0, 2], [0, 2], [-2, -1], [0, -2], [-4, 0]])
    distances = np.linalg.norm(rows[:, None] - rows[None, :], axis=-1)
    scores = np.sum(np.sort(distances**2)[:, 1:3], axis=-1)
    chosen = rows[np.argmin(scores)]
    other = aggregation.Krum(n_byzantine=1)
    assert np.linalg.norm(theirs(other, rows) - chosen) > 1
    weights = weights_of(combiners.KrumCombiner(), rows)
    np.testing.assert_array_equal(weights @ rows, chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows", [J3[:1], np.zeros((3, 4))], ids=["one", "zeros"]
)
def test_nash_mtl_raises(rows):
    other = aggregation.NashMTL(n_tasks=len(rows))
    with pytest.raises(ValueError):
        theirs(other, rows)


@pytest.mark.slow
def test_nash_mtl_of_one_active_objective_and_of_zeros():
    weigh = weigher(combiners.NashMTLCombiner(), 3)
    one = [False, True, False]
    np.testing.assert_array_equal(weigh(J3, one), one)
    np.testing.assert_array_equal(weigh(0 * J3), 0)


# TorchJD's way with a row of NaN depends on the method: it raises here, and
# gives NaN elsewhere.
@pytest.mark.slow
@pytest.mark.parametrize(
    "own, other",
    [
        (combiners.CAGradCombiner(), aggregation.CAGrad(c=0.4)),
        (combiners.NashMTLCombiner(), aggregation.NashMTL(n_tasks=3)),
        (combiners.FairGradCombiner(), aggregation.FairGrad(alpha=1.0)),
        (combiners.IMTLGCombiner(), aggregation.IMTLG()),
        (combiners.AlignedMTLCombiner(), aggregation.AlignedMTL()),
    ],
    ids=lambda x: type(x).__name__,
)
def test_nan(own, other):
    rows = np.array([J3[0], [0, np.nan, 0, 0], J3[2]])
    # torch.linalg's error is a RuntimeError.
    with pytest.raises((RuntimeError, ValueError)):
        theirs(other, rows)
    # As plain Keras: the sum, so that the optimizer sees the NaN.
    np.testing.assert_array_equal(weights_of(own, rows), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "own, other, tolerance",
    [
        (
            combiners.CAGradCombiner(rescale=None),
            aggregation.CAGrad(c=0.4),
            # Clarabel's, as above.
            2e-4,
        ),
        (combiners.IMTLGCombiner(), aggregation.IMTLG(), 1e-6),
        (combiners.AlignedMTLCombiner(), aggregation.AlignedMTL(), 1e-6),
        (combiners.ConFIGCombiner(), aggregation.ConFIG(), 1e-6),
    ],
    ids=lambda x: type(x).__name__,
)
def test_float16(own, other, tolerance):
    """TorchJD raises; ours computes in float32 what TorchJD does in float64."""
    half = J3.astype("float16")
    # NotImplementedError is one of these.
    with pytest.raises(RuntimeError):
        theirs(other, half)
    weights = weights_of(own, half)
    assert weights.dtype == "float32"
    expected = theirs(other, J3)
    difference = np.linalg.norm(weights @ J3 - expected)
    assert difference <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("count", [3, 5, 8])
@pytest.mark.parametrize("trim", [0, 1])
def test_trimmed_mean(count, trim):
    rows = well_conditioned(count, 0)
    other = theirs(aggregation.TrimmedMean(trim), rows)
    combiner = combiners.TrimmedMeanCombiner(trim)
    found = keras.ops.convert_to_numpy(combiner.combine(rows))
    np.testing.assert_allclose(found, other, rtol=1e-13)


def test_graddrop_keeps_the_same_entries_as_often():
    rows = well_conditioned(4, 0)
    torch.manual_seed(0)
    draws = [theirs(aggregation.GradDrop(), rows) for _ in range(400)]
    positive = np.maximum(rows, 0).sum(axis=0)
    negative = np.minimum(rows, 0).sum(axis=0)
    kept = np.isclose(draws, positive)
    assert np.all(kept | np.isclose(draws, negative))
    combiner = combiners.GradDropCombiner()
    mean = combiner.combine(rows, training=False)
    mean = keras.ops.convert_to_numpy(mean)
    # Four standard deviations of the mean of the draws.
    spread = (positive - negative) * np.sqrt(0.25 / 400)
    assert np.all(np.abs(np.mean(draws, axis=0) - mean) <= 4 * spread)
