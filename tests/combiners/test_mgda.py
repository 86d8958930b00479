import keras
import numpy as np
import pytest

from keras_mimo.combiners import MGDACombiner
from tests.backends import compiled
from tests.oracles import J2
from tests.oracles import J3
from tests.oracles import min_norm_point

NORMALIZATIONS = [None, "l2", "loss", "loss+"]


def weigh(rows, losses=None, active=None, normalization=None):
    rows = np.asarray(rows, "float32")
    exact = rows.astype("float64")
    gramian = (exact @ exact.T).astype("float32")
    if losses is None:
        losses = np.ones(len(rows))
    if active is None:
        active = np.ones(len(rows), bool)
    call = compiled(COMBINERS[normalization])
    return call(np.asarray(losses, "float32"), gramian, np.asarray(active))


def combiner_function(normalization):
    def function(losses, gramian, active):
        return MGDACombiner(normalization)(losses, gramian, active)

    return function


COMBINERS = {name: combiner_function(name) for name in NORMALIZATIONS}


def divisors(rows, losses, normalization):
    lengths = np.linalg.norm(rows, axis=1)
    return {
        None: np.ones(len(rows)),
        "l2": lengths,
        "loss": np.abs(losses),
        "loss+": np.abs(losses) * lengths,
    }[normalization]


def random_problem(seed, count=5):
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-2, 2, size=(count, 1))
    rows = rng.normal(size=(count, 12)) * scales
    return rows, rng.uniform(0.1, 10, size=count)


@pytest.mark.parametrize(
    "rows, expected, direction",
    [
        (J2, [0.6, 0.4], [0, 1, 1]),
        (
            J3,
            [0.396579, 0.423017, 0.180404],
            [0.163297, 0.304821, 0.576983, 0.783826],
        ),
    ],
)
def test_pinned(rows, expected, direction):
    weights = weigh(rows)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(weights @ rows, direction, atol=3e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_direction_is_the_shortest_vector_of_the_normalised_rows(normalization):
    for seed in range(5):
        rows, losses = random_problem(seed)
        scale = divisors(rows, losses, normalization)
        expected = min_norm_point(rows / scale[:, None])
        weights = weigh(rows, losses, normalization=normalization)
        direction = weights @ rows
        tolerance = 1e-3 * np.linalg.norm(expected)
        np.testing.assert_allclose(direction, expected, atol=tolerance)
        np.testing.assert_allclose(np.sum(weights * scale), 1, rtol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("count", [2, 5])
def test_no_objective_gets_worse(count, normalization):
    """Applying `w_k` in the place of `w_k / n_k` fails this."""
    for seed in range(20):
        rows, losses = random_problem(seed, count)
        weights = weigh(rows, losses, normalization=normalization)
        direction = weights @ rows
        square = direction @ direction
        scale = divisors(rows, losses, normalization)
        lengths = np.linalg.norm(rows, axis=1)
        rounding = 4 * count * np.finfo("float32").eps
        bound = rounding * lengths * np.sum(weights * lengths)
        assert np.all(rows @ direction >= scale * square - bound)
        # The step is not so short that rounding explains everything.
        assert square > 3 * max(bound / scale)


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
def test_only_the_size_of_a_loss_counts(normalization):
    rows, losses = random_problem(0)
    signs = np.array([1, -1, 1, -1, 1])
    np.testing.assert_array_equal(
        weigh(rows, losses * signs, normalization=normalization),
        weigh(rows, losses, normalization=normalization),
    )


@pytest.mark.parametrize("normalization", ["loss", "loss+"])
def test_a_loss_of_0_is_not_divided_by(normalization):
    lengths = np.arange(1.0, 6)
    losses = np.array([0, 2, 4, 1, 3.0])
    weights = weigh(np.diag(lengths), losses, normalization=normalization)
    scale = divisors(np.diag(lengths), losses, normalization)
    scale[0] = 1
    # Orthogonal rows: w_k is proportional to n_k^2 / ||g_k||^2.
    shares = (scale / lengths) ** 2
    expected = shares / np.sum(shares) / scale
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_gradient_of_0_stops_the_step(normalization):
    rows, losses = random_problem(0)
    rows[2] = 0
    weights = weigh(rows, losses, normalization=normalization)
    np.testing.assert_array_equal(weights @ rows, 0)
    assert weights[2] > 0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_an_absent_objective_does_not_stop_the_step(normalization):
    rows, losses = random_problem(1)
    active = np.array([True, True, False, True, True])
    weights = weigh(
        np.where(active[:, None], rows, 0), losses, active, normalization
    )
    present = rows[active]
    scale = divisors(present, losses[active], normalization)
    expected = min_norm_point(present / scale[:, None])
    np.testing.assert_allclose(
        weights[active] @ present,
        expected,
        atol=1e-3 * np.linalg.norm(expected),
    )
    assert weights[2] == 0


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_step_scales_with_the_gradients(scale):
    """The weights stay, so that `A(cJ) = c A(J)`."""
    rows, _ = random_problem(3)
    np.testing.assert_allclose(weigh(rows * scale), weigh(rows), atol=2e-6)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_l2_step_does_not_depend_on_lengths(scale):
    rows, _ = random_problem(3)
    factors = np.array([1, scale, 1, 1, 10])[:, None]
    expected = weigh(rows, normalization="l2") @ rows
    scaled = rows * factors
    direction = weigh(scaled, normalization="l2") @ scaled
    np.testing.assert_allclose(direction, expected, atol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_order_does_not_matter(normalization):
    rows, losses = random_problem(4)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(
        weigh(rows[order], losses[order], normalization=normalization),
        weigh(rows, losses, normalization=normalization)[order],
        rtol=1e-4,
        atol=1e-7,
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_config_round_trip(normalization):
    combiner = MGDACombiner(normalization)
    combiner.build(["a", "b"])
    config = keras.saving.serialize_keras_object(combiner)
    copy = keras.saving.deserialize_keras_object(config)
    assert isinstance(copy, MGDACombiner)
    assert copy.normalization == normalization
    assert copy.objective_names == ["a", "b"]


def test_reference_mode_gives_the_weights_of_the_normalised_vectors():
    """As released code does: then objectives can conflict."""
    losses = np.array([0.5, 2.0], "float32")
    rows = np.array([[1.0, 0.0], [-0.9, 0.1]], "float32")
    gramian = rows @ rows.T
    scale = losses * np.linalg.norm(rows, axis=1)
    unit = rows / scale[:, None]
    difference = unit[0] - unit[1]
    share = np.clip(
        unit[1] @ (unit[1] - unit[0]) / difference.dot(difference), 0, 1
    )
    expected = np.array([share, 1 - share])
    found = MGDACombiner("loss+", mode="reference")(losses, gramian)
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.min(rows @ (found @ rows)) < -0.01
    corrected = MGDACombiner("loss+")(losses, gramian)
    corrected = keras.ops.convert_to_numpy(corrected)
    np.testing.assert_allclose(corrected, expected / scale, rtol=1e-5)
    assert np.min(rows @ (corrected @ rows)) > 0
    config = MGDACombiner(mode="reference").get_config()
    assert MGDACombiner.from_config(config).mode == "reference"


@pytest.mark.parametrize("mode", ["released", None])
def test_unknown_mode(mode):
    with pytest.raises(ValueError, match=r"`mode`.*'reference'"):
        MGDACombiner(mode=mode)


@pytest.mark.parametrize("normalization", ["L2", "none", True, ["l2"]])
def test_unknown_normalization(normalization):
    with pytest.raises(ValueError, match=r"`normalization`.*'loss\+'"):
        MGDACombiner(normalization)


def test_gramian_is_required():
    with pytest.raises(ValueError, match="needs the argument `gramian`"):
        MGDACombiner()(np.ones(3))


def test_one_objective_is_no_use():
    with pytest.raises(ValueError, match="at least 2 objectives"):
        MGDACombiner().build(["only"])
