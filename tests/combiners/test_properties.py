"""Every combiner, held to the traits that its class declares."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_mimo import combiners
from keras_mimo.combiners.wrapper import CombinerWrapper
from tests.backends import compiled
from tests.backends import double_precision
from tests.backends import gradient
from tests.solvers.problems import FAMILIES
from tests.solvers.problems import INDEPENDENT
from tests.solvers.problems import STATIONARY
from tests.solvers.problems import around_zero
from tests.solvers.problems import gramian
from tests.solvers.problems import plain
from tests.solvers.problems import scaled

TRAITS = {
    "convex",
    "homogeneous",
    "linear_under_scaling",
    "non_conflicting",
    "non_conflicting_if_independent",
    "nonnegative",
    "permutation_equivariant",
    "random",
    "scale_invariant",
    "stateful",
    "trainable",
}
NO_COMBINERS = (
    "BalancedGradientCombiner",
    "CoordinateCombiner",
    "RowCombiner",
    "get",
)
CLASSES = [
    getattr(combiners, name)
    for name in combiners.__all__
    if name not in NO_COMBINERS
]
# A compiler takes longer than the tests: there, fewer are active of the 8.
COMPILES = keras.backend.backend() != "torch"
COUNTS = [8] if COMPILES else [2, 3, 5, 8]
MANY = [32] if COMPILES else [16, 32]
LARGE = 8
NAMES = ["fused", *(f"other_{k}" for k in range(31))]
PROFILE = settings(
    max_examples=12, derandomize=True, deadline=None, database=None
)


def having(*traits):
    """Parametrises by the combiners that have one of the traits."""
    classes = [c for c in CLASSES if c.traits & set(traits)]
    return pytest.mark.parametrize("cls", classes)


def having_all(*traits):
    """Parametrises by the combiners of Gramians that have all the traits."""
    gramian = [c for c in CLASSES if c.needs == "gramian"]
    classes = [c for c in gramian if c.traits >= set(traits)]
    return pytest.mark.parametrize("cls", classes)


every_combiner = pytest.mark.parametrize("cls", CLASSES)


few_and_many = pytest.mark.parametrize(
    "counts", [COUNTS, pytest.param(MANY, marks=pytest.mark.slow)], ids=str
)


def counts_of(cls, counts=COUNTS):
    # Krum compares at least four.
    return [k for k in counts if k >= 4 or cls is not combiners.KrumCombiner]


def build(cls, names, **arguments):
    if cls is combiners.ConstantCombiner:
        arguments["weights"] = {n: NAMES.index(n) - 1.5 for n in names}
    if issubclass(cls, CombinerWrapper):
        arguments["combiner"] = combiners.MGDACombiner()
    combiner = cls(**arguments)
    combiner.build(names)
    return combiner


@functools.cache
def solver(cls, names):
    combiner = build(cls, list(names))

    def solve(losses, gramian, active):
        # The state of every call is the first one, and no call changes it.
        with keras.StatelessScope():
            return combiner(losses, gramian, active, training=False)

    return compiled(solve)


def losses_of(names, dtype):
    return np.array([1 + NAMES.index(n) / 4 for n in names], dtype)


def solve(cls, rows, active=None, names=None):
    """Weights for rows, whose Gramian is rounded to the rows' dtype."""
    names = tuple(NAMES[: len(rows)] if names is None else names)
    active = np.ones(len(rows), bool) if active is None else np.array(active)
    losses = losses_of(names, rows.dtype)
    # JAX compiles anew outside of it.
    with double_precision():
        return solver(cls, names)(losses, gramian(rows), active)


def direction(cls, rows, *args):
    if cls.needs == "gradients":
        combiner = build(cls, NAMES[: len(rows)])
        return numpy(combiner.combine(rows, *args[:1], training=False))
    return solve(cls, rows, *args).astype("float64") @ rows.astype("float64")


def assert_same(a, b, size, tolerance=1e-8):
    assert np.linalg.norm(a - b) <= tolerance * size


@st.composite
def problems(draw, families=FAMILIES, counts=COUNTS, inactive=True):
    """Rows, and which of them are active. An inactive row is rubbish."""
    count = draw(st.sampled_from(counts))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.sampled_from(families))(rng, count)
    rows = scaled(rng, rows, draw(st.sampled_from([0, 1, 3])))
    if draw(st.integers(0, 3)) == 0 and families is FAMILIES:
        rows[rng.integers(count)] = 0
    active = np.ones(count, bool)
    if inactive:
        active = rng.uniform(size=count) < draw(st.sampled_from([0.5, 1]))
    return rows, active


class Outcome:
    """What some weights do to some rows."""

    def __init__(self, cls, rows, active):
        self.weights = solve(cls, rows, active).astype("float64")
        exact = rows.astype("float64")
        norms = np.linalg.norm(exact, axis=1)
        direction = self.weights @ exact
        self.length = np.linalg.norm(direction)
        # How far each active objective improves, whatever its gradient's norm.
        improvements = exact @ direction / np.where(norms > 0, norms, 1)
        self.worst = np.min(improvements[active], initial=0)
        size = np.abs(self.weights) @ norms
        self.rounding = len(rows) * np.finfo(rows.dtype).eps * size


def test_every_trait_is_known_and_used():
    declared = [c.traits for c in CLASSES]
    assert set().union(*declared) == TRAITS
    assert combiners.BalancedGradientCombiner.traits == frozenset()
    for traits in declared:
        assert "nonnegative" in traits or "convex" not in traits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@few_and_many
@every_combiner
def test_any_gramian(cls, counts, dtype):
    @PROFILE
    @given(problems(counts=counts_of(cls, counts)))
    def run(problem):
        rows, active = problem
        weights = solve(cls, rows.astype(dtype), active)
        assert weights.dtype == dtype
        assert np.all(np.isfinite(weights))
        assert np.all(weights[~active] == 0)
        if "nonnegative" in cls.traits:
            assert np.all(weights >= 0)
        if "convex" in cls.traits and np.any(active):
            epsilon = np.finfo(dtype).eps
            np.testing.assert_allclose(np.sum(weights), 1, atol=16 * epsilon)

    with double_precision():
        run()


# Inner products of unit vectors with the update, in units of `K * eps` of the
# terms `sum_k |w_k| ||g_k||`: what the Gramian's own rounding may do, twice.
# Dependent rows allow some more.
UNITS = 8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@few_and_many
@having("non_conflicting")
def test_non_conflicting(cls, counts, dtype):
    @PROFILE
    @given(problems(counts=counts_of(cls, counts)))
    def run(problem):
        rows, active = problem
        outcome = Outcome(cls, rows.astype(dtype), active)
        assert outcome.worst >= -UNITS * outcome.rounding

    with double_precision():
        run()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@having_all("non_conflicting", "homogeneous")
def test_non_conflicting_at_stationary_points(cls, dtype):
    """Relative to the gradients: stretched noise has large terms, too."""
    counts = [k for k in COUNTS if k <= LARGE]

    @PROFILE
    @given(problems(STATIONARY, counts, inactive=False))
    def run(problem):
        rows = problem[0].astype(dtype)
        total = np.sum(np.linalg.norm(rows.astype("float64"), axis=1))
        bound = UNITS * len(rows) * np.finfo(dtype).eps * total
        assert Outcome(cls, rows, problem[1]).worst >= -bound

    with double_precision():
        run()


@few_and_many
@having("non_conflicting", "non_conflicting_if_independent")
def test_non_conflicting_relative_to_the_step(cls, counts):
    """To a millionth of the step, where rounding is far from that."""

    @PROFILE
    @given(problems(INDEPENDENT, counts_of(cls, counts)))
    def run(problem):
        outcome = Outcome(cls, *problem)
        assert outcome.worst >= -1e-6 * outcome.length

    with double_precision():
        run()


def test_the_examples_tell_a_conflict():
    """The tests above would be worth nothing if the sum passed them."""
    failures = []

    @PROFILE
    @given(problems(INDEPENDENT))
    def run(problem):
        outcome = Outcome(combiners.SumCombiner, *problem)
        failures.append(outcome.worst < -1e-6 * outcome.length)

    with double_precision():
        run()
    assert sum(failures) >= 3


def of_scaled(cls, rows, active, scale):
    """What is the same for every scale: weights or, without, the update."""
    rows = (rows * scale).astype(rows.dtype)
    if cls.needs == "gradients":
        return direction(cls, rows, active) / scale
    return solve(cls, rows, active)


@few_and_many
@having("homogeneous")
def test_homogeneous(cls, counts):
    """Powers of 2 round nothing, so that not even a tie is decided anew."""

    @PROFILE
    @given(problems(counts=counts_of(cls, counts)))
    def run(problem):
        rows, active = problem
        for dtype in ("float32", "float64"):
            rows = scaled(np.random.default_rng(0), rows, 0).astype(dtype)
            expected = of_scaled(cls, rows, active, 1.0)
            for scale in (2.0**-33, 2.0**33):
                found = of_scaled(cls, rows, active, scale)
                tolerance = 1e-12 if dtype == "float64" else 1e-5
                np.testing.assert_allclose(found, expected, rtol=tolerance)

    with double_precision():
        run()


def lengthened(cls, seed, factors, family=plain):
    """Directions for the same rows with other lengths, and their size."""
    rows = family(np.random.default_rng(seed), LARGE)
    found = [direction(cls, rows * f[:, None]) for f in factors]
    return found, np.linalg.norm(rows) * np.max(factors)


@having("linear_under_scaling")
def test_linear_under_scaling(cls):
    with double_precision():
        for seed, family in enumerate((plain, plain, *STATIONARY)):
            a, b = 10 ** np.random.default_rng(seed).uniform(-2, 2, (2, LARGE))
            found, size = lengthened(cls, seed, [a, b, a + b], family)
            assert_same(found[0] + found[1], found[2], size, 1e-10)


@having("scale_invariant")
def test_scale_invariant(cls):
    with double_precision():
        for seed in range(3):
            a = 10 ** np.random.default_rng(seed).uniform(-3, 3, LARGE)
            found, _ = lengthened(cls, seed, [np.ones(LARGE), a])
            assert_same(*found, np.linalg.norm(found[0]), 1e-10)
        for seed, family in enumerate(STATIONARY):
            # Of length 1 elsewhere, and here known to the root of rounding.
            found, _ = lengthened(cls, seed, [np.ones(LARGE), a], family)
            assert_same(*found, 1, np.sqrt(LARGE * np.finfo("float64").eps))


def test_the_examples_tell_a_nonlinear_combiner():
    with double_precision():
        a, b = 10 ** np.random.default_rng(0).uniform(-2, 2, (2, LARGE))
        found, _ = lengthened(combiners.MGDACombiner, 0, [a, b, a + b])
        difference = np.linalg.norm(found[0] + found[1] - found[2])
        assert difference > 1e-3 * np.linalg.norm(found[2])
        assert np.linalg.norm(found[0] - found[2]) > 1e-3


@having("permutation_equivariant")
def test_permutation_equivariant(cls):
    """Of dependent gradients only the direction is unique, not the weights."""
    combiner = build(cls, NAMES[:LARGE])
    with double_precision():
        for seed, family in enumerate(FAMILIES[:-1]):
            rng = np.random.default_rng(seed)
            rows = family(rng, LARGE)
            order = rng.permutation(LARGE)
            active = rng.uniform(size=LARGE) < 0.8
            expected = direction(cls, rows, active)
            names = NAMES[:LARGE]
            if combiner.needs == "losses":
                # The others do not see the names, and need not compile anew.
                names = [NAMES[k] for k in order]
            rows, active = rows[order], active[order]
            found = direction(cls, rows, active, names)
            assert_same(found, expected, np.sum(np.linalg.norm(rows, axis=1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@having_all("permutation_equivariant")
def test_permutation_equivariant_at_stationary_points(cls, dtype):
    """A Gramian known to `K * eps` tells lengths to the root of that."""
    tolerance = np.sqrt(LARGE * np.finfo(dtype).eps)
    with double_precision():
        for seed, family in enumerate(2 * STATIONARY):
            rng = np.random.default_rng(seed)
            rows = scaled(rng, family(rng, LARGE), seed % 2).astype(dtype)
            order = rng.permutation(LARGE)
            expected = direction(cls, rows)
            found = direction(cls, rows[order])
            size = np.sum(np.linalg.norm(rows.astype("float64"), axis=1))
            if "homogeneous" not in cls.traits:
                # The length that they are made to have, short of this point.
                size = np.sqrt(LARGE)
            assert_same(found, expected, size, tolerance)


# The first two rows oppose each other, and no others do.
SINGLE_CONFLICT = np.tile(
    [[1, 0, 0, 0], [-1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]], 4
)


@every_combiner
def test_inactive_rows_take_no_part(cls):
    """As if the model did not have them."""
    present = [0, 1, 4, 6]
    names = [NAMES[k] for k in present]
    active = np.isin(np.arange(LARGE), present)
    with double_precision():
        for seed in range(3):
            rows = plain(np.random.default_rng(seed), LARGE)
            if "random" in cls.traits:
                # One conflict only, so that the order does not matter.
                rows[present] = rows[0] ** 2 * SINGLE_CONFLICT
            weights = solve(cls, rows, active)
            expected = solve(cls, rows[active], None, names)
            np.testing.assert_allclose(weights[active], expected, rtol=1e-8)
            rows[~active] = 0
            np.testing.assert_array_equal(solve(cls, rows, active), weights)


def numpy(x):
    return keras.ops.convert_to_numpy(x)


# What each does with an objective whose gradient is 0, beside two orthogonal
# unit vectors: the update. An inactive one would leave (1, 1) times a factor.
ZERO_ROW = {
    "CAGradCombiner": np.array([1, 1]) / 3 / 1.16,
    "DualProjCombiner": [1 / 3, 1 / 3],
    "MGDACombiner": [0, 0],
    "MeanCombiner": [1 / 3, 1 / 3],
    "UPGradCombiner": [1 / 3, 1 / 3],
    "AlignedMTLCombiner": [1 / 3, 1 / 3],
    "NashMTLCombiner": np.array([1, 1]) / np.sqrt(2),
    "FairGradCombiner": [1, 1],
    "IMTLGCombiner": [0.5, 0.5],
    "ConFIGCombiner": [1, 1],
    "PCGradCombiner": [1, 1],
    "GradVacCombiner": [1, 1],
}


@pytest.mark.parametrize("name", ZERO_ROW)
def test_a_gradient_of_length_0(name):
    rows = np.array([[1.0, 0], [0, 1], [0, 0]])
    combiner = getattr(combiners, name)()
    weights = combiner(np.ones(3), rows @ rows.T, training=False)
    np.testing.assert_allclose(numpy(weights) @ rows, ZERO_ROW[name], atol=1e-6)


@every_combiner
def test_one_or_no_active_objective(cls):
    rows = plain(np.random.default_rng(0), LARGE).astype("float32")
    nothing = solve(cls, rows, np.zeros(LARGE, bool))
    np.testing.assert_array_equal(nothing, np.zeros(LARGE))
    if build(cls, NAMES[:LARGE]).needs == "gramian":
        for k in (0, LARGE - 1):
            active = np.arange(LARGE) == k
            np.testing.assert_array_equal(solve(cls, rows, active), active)


@every_combiner
def test_one_objective(cls):
    if build(cls, NAMES[:LARGE]).min_objectives > 1:
        with pytest.raises(ValueError, match="objectives"):
            build(cls, ["fused"])
    else:
        combiner = build(cls, ["fused"])
        expected = -1.5 if cls is combiners.ConstantCombiner else 1
        np.testing.assert_allclose(numpy(combiner([3.0])), [expected])


@every_combiner
def test_nan_is_plain_keras(cls):
    rows = plain(np.random.default_rng(0), LARGE).astype("float32")
    rows[2] = np.nan
    active = np.arange(LARGE) != 5
    np.testing.assert_array_equal(solve(cls, rows, active), active)
    # Where it is absent it does no harm.
    active[2] = False
    weights = solve(cls, rows, active)
    assert np.all(np.isfinite(weights))
    rows[2] = 0
    np.testing.assert_array_equal(weights, solve(cls, rows, active))


@having("random")
def test_random_in_training_only(cls):
    rows = around_zero(np.random.default_rng(0), 4)

    def result(combiner, training=True):
        if cls.needs == "gradients":
            return numpy(combiner.combine(rows, training=training))
        return numpy(combiner(np.ones(4), gramian(rows), training=training))

    first, second = (build(cls, NAMES[:4], seed=1) for _ in range(2))
    mean = result(build(cls, NAMES[:4]), training=False)
    draws = []
    for _ in range(4):
        draws.append(result(first))
        np.testing.assert_array_equal(result(second), draws[-1])
    assert max(np.max(np.abs(d - draws[0])) for d in draws) > 1e-2
    for _ in range(2):
        again = result(build(cls, NAMES[:4]), training=False)
        np.testing.assert_array_equal(again, mean)


@having("stateful")
def test_stateful_depends_on_the_steps_before(cls):
    rows = plain(np.random.default_rng(0), 4)
    arguments = np.ones(4), gramian(rows)
    seed = {"seed": 1} if "random" in cls.traits else {}
    combiner = build(cls, NAMES[:4], **seed)
    fresh = numpy(combiner(*arguments, training=False))
    before = [numpy(v).copy() for v in combiner.non_trainable_weights]
    assert len(before) > 0
    # All that a step and the end of an epoch may tell a combiner, twice.
    for losses in (np.ones(4), np.arange(1.0, 5)):
        combiner(losses, gramian(rows + 3))
        if combiner.looks_again:
            combiner.after_step(losses * [0.9, 0.5, 1, 1.1])
        combiner.on_epoch_end()
    after = [numpy(v).copy() for v in combiner.non_trainable_weights]
    assert any(np.any(a != b) for a, b in zip(before, after, strict=True))
    assert not np.allclose(numpy(combiner(*arguments, training=False)), fresh)
    for a, v in zip(after, combiner.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(a, numpy(v))


@every_combiner
def test_trainable(cls):
    """What the optimizer learns is moved by nothing but the optimizer."""
    combiner = build(cls, NAMES[:4])
    assert bool(combiner.trainable_weights) == ("trainable" in cls.traits)
    active = keras.ops.convert_to_tensor([True, True, False, True])
    losses = keras.ops.convert_to_tensor([1.5, 2, 3, 4])
    for variable in combiner.trainable_weights:
        before = numpy(variable).copy()
        weights = combiner(losses, active=active)
        combiner.on_epoch_end()
        np.testing.assert_array_equal(numpy(variable), before)

        def scalar(value, variable=variable, weights=weights):
            with keras.StatelessScope([(variable, value)]):
                return combiner.scalarize(losses, weights, active)

        present = gradient(scalar, before) != 0
        np.testing.assert_array_equal(present, numpy(active))
        variable.assign(before + 1)
        changed = numpy(combiner(losses, active=active)) != numpy(weights)
        np.testing.assert_array_equal(changed, numpy(active))
