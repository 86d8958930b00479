import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_mimo.solvers.min_norm import min_norm
from tests.backends import MODES
from tests.backends import compiled
from tests.backends import double_precision
from tests.backends import gradient
from tests.oracles import J2
from tests.oracles import J3
from tests.oracles import min_norm_point


def plain(rng, count):
    return rng.normal(size=(count, 16))


def correlated(rng, count):
    return rng.normal(size=(count, 16)) + 3 * rng.normal(size=16)


def opposing(rng, count, distance=None):
    """Pairs at a cosine of about `distance - 1`, from 1e-6 down to 1e-12."""
    if distance is None:
        distance = 10.0 ** rng.uniform(-12, -6)
    sides = np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]
    shared = rng.normal(size=16)
    return sides * shared + np.sqrt(distance) * rng.normal(size=(count, 16))


def duplicated(rng, count):
    rows = plain(rng, count)
    rows[count // 2 :] = rows[: count - count // 2]
    return rows


def nearly_duplicated(rng, count):
    return duplicated(rng, count) + 1e-7 * plain(rng, count)


def rank_deficient(rng, count):
    return rng.normal(size=(count, max(1, count - 2)))


def around_zero(rng, count):
    """Rows whose convex hull contains 0 or passes close by."""
    rows = plain(rng, count)
    return rows - rng.uniform(0.99, 1.01) * np.mean(rows, axis=0)


FAMILIES = [
    plain,
    correlated,
    opposing,
    duplicated,
    nearly_duplicated,
    rank_deficient,
    around_zero,
]
COUNTS = range(2, 9)


def examples(count, dtype):
    """Every family, with rows of equal length and with lengths 10^+-2."""
    rng = np.random.default_rng(count)
    for family in FAMILIES:
        for spread in (0, 2):
            rows = family(rng, count)
            scales = 10.0 ** rng.uniform(-spread, spread, size=(count, 1))
            yield (rows * scales).astype(dtype)


def solve(rows, active=None, mode=None):
    """Weights for rows, whose Gramian is rounded to the rows' dtype."""
    exact = rows.astype("float64")
    gramian = (exact @ exact.T).astype(rows.dtype)
    if active is None:
        active = np.ones(len(rows), bool)
    arguments = () if mode is None else (mode,)
    return compiled(min_norm, *arguments)(gramian, np.asarray(active))


class Solution:
    """What the conditions of the min-norm problem say of some weights."""

    def __init__(self, rows, weights):
        epsilon = np.finfo(rows.dtype).eps
        rows = rows.astype("float64")
        weights = weights.astype("float64")
        assert np.all(weights >= 0)
        np.testing.assert_allclose(np.sum(weights), 1, atol=8 * epsilon)
        self.point = weights @ rows
        self.square = self.point @ self.point
        self.norms = np.linalg.norm(rows, axis=1)
        self.products = rows @ self.point
        self.shortfall = np.maximum(self.square - self.products, 0)
        size = np.sum(weights * self.norms)
        self.rounding = 4 * len(rows) * epsilon * size
        # A weight that is only rounding of the others is none.
        self.support = weights * self.norms > epsilon * size

    def assert_optimal_up_to_rounding(self):
        bound = self.rounding * self.norms
        assert np.all(self.shortfall <= bound)
        slack = np.abs(self.square - self.products)
        assert np.all(slack[self.support] <= bound[self.support])

    def assert_close_to(self, expected):
        # If g_k . d >= ||d||^2 - e_k, then ||d - d*||^2 <= sum_k w*_k e_k.
        error = np.linalg.norm(self.point - expected)
        largest = np.max(self.shortfall) + self.rounding**2
        assert error <= np.sqrt(largest) + self.rounding


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "rows, expected",
    [(J2, [0.6, 0.4]), (J3, [0.396579, 0.423017, 0.180404])],
)
def test_pinned(rows, expected, mode):
    weights = solve(rows.astype("float32"), mode=mode)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("count", COUNTS)
def test_float64_against_enumeration(count):
    relative = 0
    with double_precision():
        for rows in examples(count, "float64"):
            weights = solve(rows)
            assert weights.dtype == "float64"
            solution = Solution(rows, weights)
            solution.assert_optimal_up_to_rounding()
            expected = min_norm_point(rows)
            solution.assert_close_to(expected)

            length = np.linalg.norm(solution.point)
            if length > 1e6 * solution.rounding:
                bound = 1e-6 * solution.norms * length
                assert np.all(solution.products >= -bound)
            if solution.square > 1e6 * solution.rounding * max(solution.norms):
                relative += 1
                assert max(solution.shortfall) <= 1e-6 * solution.square
                np.testing.assert_allclose(
                    solution.point, expected, atol=1e-6 * length
                )
    # In most examples the point is far from 0, so that this says something.
    assert relative >= 8


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_float32_bound(count):
    for rows in examples(count, "float32"):
        Solution(rows, solve(rows)).assert_optimal_up_to_rounding()


@pytest.mark.parametrize("distance", [1e-6, 1e-9])
def test_no_conflict_between_opposing_rows_in_float64(distance):
    rng = np.random.default_rng(0)
    with double_precision():
        for _ in range(10):
            rows = opposing(rng, 6, distance)
            scales = 10.0 ** rng.uniform(-2, 2, size=(6, 1))
            solution = Solution(rows * scales, solve(rows * scales))
            assert solution.square > 0
            length = np.linalg.norm(solution.point)
            assert np.all(solution.products >= -1e-6 * length * solution.norms)


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(
    count=st.sampled_from([2, 3, 5, 8]),
    dimensions=st.integers(1, 12),
    digits=st.integers(0, 6),
    spread=st.floats(0, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_gramian(count, dimensions, digits, spread, seed):
    """Few digits make ties, zero rows and exact dependence likely."""
    rng = np.random.default_rng(seed)
    rows = np.round(rng.normal(size=(count, dimensions)), digits)
    rows *= 10.0 ** rng.uniform(-spread, spread, size=(count, 1))
    rows = rows.astype("float32")
    Solution(rows, solve(rows)).assert_optimal_up_to_rounding()


@pytest.mark.parametrize("family", [around_zero, opposing, rank_deficient])
def test_gramian_with_negative_eigenvalues(family):
    """Summing millions of products in float32 adds errors of this size."""
    noise = 1e-5
    rng = np.random.default_rng(0)
    active = np.ones(5, bool)
    for _ in range(30):
        rows = family(rng, 5)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        error = rng.uniform(-noise, noise, size=(5, 5))
        gramian = (rows @ rows.T + error + error.T).astype("float32")
        weights = compiled(min_norm)(gramian, active).astype("float64")
        np.testing.assert_allclose(np.sum(weights), 1, atol=1e-6)
        point = weights @ rows
        assert np.all(rows @ point >= point @ point - 4 * noise)


@pytest.mark.parametrize("scale", [1e-10, 1e-5, 1e5, 1e10])
@pytest.mark.parametrize("count", [2, 5])
def test_scale_of_the_problem_does_not_matter(count, scale):
    rng = np.random.default_rng(0)
    spread = 10.0 ** np.linspace(-1, 1, count)[:, None]
    rows = (correlated(rng, count) * spread).astype("float32")
    scaled = (rows.astype("float64") * scale).astype("float32")
    np.testing.assert_allclose(solve(scaled), solve(rows), atol=3e-6)


@pytest.mark.parametrize("count", [2, 5])
def test_order_does_not_matter(count):
    rng = np.random.default_rng(1)
    rows = (plain(rng, count) * np.arange(1, count + 1)[:, None]).astype(
        "float32"
    )
    order = rng.permutation(count)
    np.testing.assert_allclose(
        solve(rows[order]), solve(rows)[order], atol=1e-6
    )


def test_small_weight_of_a_long_row_is_accurate():
    """`1 - w` would leave it with no correct digit in float32."""
    rows = np.array([[1.0, 1e-3], [-1e5, 1e2]], "float32")
    exact = rows.astype("float64")
    edge = exact[0] - exact[1]
    weights = solve(rows)
    np.testing.assert_allclose(
        weights[1], exact[0] @ edge / (edge @ edge), rtol=1e-5
    )


@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_rows(count):
    rows = np.ones((count, 4), "float32")
    solution = Solution(rows, solve(rows))
    np.testing.assert_allclose(solution.point, np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(solve(rows[:2]), [0.5, 0.5])


@pytest.mark.parametrize(
    "zeros, expected",
    [
        ([0], [1, 0, 0, 0, 0]),
        ([1, 2], [0, 0.5, 0.5, 0, 0]),
        ([0, 1, 2, 3, 4], [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_rows_of_length_0_take_all_the_weight(zeros, expected):
    rows = plain(np.random.default_rng(0), 5).astype("float32")
    rows[zeros] = 0
    np.testing.assert_allclose(solve(rows), expected)


def test_one_of_two_rows_of_length_0():
    rows = np.array([[0.0, 0], [3, 4]], "float32")
    np.testing.assert_allclose(solve(rows), [1, 0])
    np.testing.assert_allclose(solve(0 * rows), [0.5, 0.5])


@pytest.mark.parametrize("present", [[0, 2, 4], [1, 3], [2], []])
def test_inactive_rows_take_no_part(present):
    rows = plain(np.random.default_rng(2), 5).astype("float32")
    active = np.isin(np.arange(5), present)
    weights = solve(np.where(active[:, None], rows, 0), active)
    expected = np.zeros(5)
    if len(present) > 1:
        expected[present] = solve(rows[present])
    else:
        expected[present] = 1
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("active", [[1, 1], [1, 0], [0, 1], [0, 0]])
def test_inactive_rows_of_two(active):
    active = np.array(active, bool)
    rows = np.where(active[:, None], J2, 0).astype("float32")
    expected = [0.6, 0.4] if all(active) else active
    np.testing.assert_allclose(solve(rows, active), expected, atol=1e-6)


@pytest.mark.parametrize("rows", [J2, J3])
def test_no_gradient_flows_through_the_weights(rows):
    gramian = (rows @ rows.T).astype("float32")
    active = ops.ones((len(rows),), dtype="bool")
    factors = ops.arange(len(rows), dtype="float32")

    def function(gramian):
        return ops.sum(min_norm(gramian, active) * factors)

    assert np.all(gradient(function, gramian) == 0)
