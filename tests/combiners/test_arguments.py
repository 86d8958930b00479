"""Arguments of the combiners, and what is specific to those on a Gramian."""

import keras
import numpy as np
import pytest

from keras_mimo.combiners import AlignedMTLCombiner
from keras_mimo.combiners import CAGradCombiner
from keras_mimo.combiners import ConFIGCombiner
from keras_mimo.combiners import DualProjCombiner
from keras_mimo.combiners import DWACombiner
from keras_mimo.combiners import ExcessMTLCombiner
from keras_mimo.combiners import FairGradCombiner
from keras_mimo.combiners import FAMOCombiner
from keras_mimo.combiners import GradNormCombiner
from keras_mimo.combiners import GradVacCombiner
from keras_mimo.combiners import IMTLGCombiner
from keras_mimo.combiners import KrumCombiner
from keras_mimo.combiners import MMParetoCombiner
from keras_mimo.combiners import MoCo
from keras_mimo.combiners import NashMTLCombiner
from keras_mimo.combiners import PCDCombiner
from keras_mimo.combiners import PCGradCombiner
from keras_mimo.combiners import RLWCombiner
from keras_mimo.combiners import STCHCombiner
from keras_mimo.combiners import UPGradCombiner
from tests.oracles import J2
from tests.oracles import J3

NAMES = ["a", "b", "c"]
LOSSES = np.ones(3, "float32")
GRAMIAN = (J3 @ J3.T).astype("float32")
PREFERRING = [
    AlignedMTLCombiner,
    ConFIGCombiner,
    DualProjCombiner,
    STCHCombiner,
    UPGradCombiner,
]


def weights(combiner, active=None, gramian=GRAMIAN):
    if not combiner.built:
        combiner.build(NAMES[: len(gramian)])
    losses = LOSSES[: len(gramian)]
    return keras.ops.convert_to_numpy(
        combiner(losses, gramian, active, training=False)
    )


@pytest.mark.parametrize(
    "combiner",
    [
        AlignedMTLCombiner(scale="rmse", preference={"c": 2.0}),
        CAGradCombiner(c=0.7, rescale="linear"),
        ConFIGCombiner(preference=[1, 2, 3]),
        DualProjCombiner(preference=[1, 2, 3]),
        DWACombiner(temperature=1.0),
        ExcessMTLCombiner(learning_rate=0.1, warmup_steps=3),
        FairGradCombiner(alpha=2.0),
        FAMOCombiner(learning_rate=0.1, decay=0, min_losses={"b": 0.5}),
        GradNormCombiner(alpha=0.12, learning_rate=0.1),
        GradVacCombiner(beta=0.1, seed=3),
        IMTLGCombiner(name="mine"),
        KrumCombiner(byzantine=0, selected=2),
        NashMTLCombiner(max_norm=None),
        PCDCombiner(primary="b", tau=0.1, beta=0.9),
        PCGradCombiner(seed=3),
        RLWCombiner(seed=3),
        STCHCombiner(0.2, reference=[0, 1, 2], preference={"a": 1}),
        STCHCombiner(reference=-1),
        UPGradCombiner(preference={"a": 1, "b": 0.5}),
    ],
    ids=lambda combiner: type(combiner).__name__,
)
def test_config_round_trip(combiner):
    default = type(combiner)().get_config()
    assert combiner.get_config() != default
    config = keras.saving.serialize_keras_object(combiner)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(combiner)
    assert copy.get_config() == combiner.get_config()
    np.testing.assert_array_equal(weights(copy), weights(combiner))


@pytest.mark.parametrize("cls", PREFERRING)
def test_preferences(cls):
    """By list or name, in any scale, and without what is not there."""
    listed = weights(cls(preference=[1, 2, 0]))
    named = weights(cls(preference={"b": 4.0, "a": 2.0}))
    np.testing.assert_allclose(named, listed, rtol=1e-5)
    assert not np.allclose(listed, weights(cls()), rtol=1e-2)
    np.testing.assert_allclose(
        weights(cls(preference=[3, 3, 3])), weights(cls()), rtol=1e-5
    )
    present = weights(cls(preference=[1, 2, 5]), [True, True, False])
    expected = weights(cls(preference=[1, 2]), gramian=GRAMIAN[:2, :2])
    np.testing.assert_allclose(present[:2], expected, rtol=1e-5)
    # Nothing that is preferred is there.
    nothing = weights(cls(preference=[0, 0, 1]), [True, True, False])
    np.testing.assert_array_equal(nothing, [0, 0, 0])


def test_what_a_preference_means():
    np.testing.assert_allclose(
        weights(DualProjCombiner([0, 0, 1])) @ J3 @ J3.T,
        # The third gradient, made orthogonal to the two that it opposes.
        [0, 0, weights(DualProjCombiner([0, 0, 1])) @ J3 @ J3[2]],
        atol=1e-5,
    )
    shares = np.array([0.5, 0.3, 0.2])
    units = [weights(UPGradCombiner(list(row))) for row in np.eye(3)]
    np.testing.assert_allclose(
        weights(UPGradCombiner(list(shares))), shares @ units, rtol=1e-5
    )
    direction = weights(ConFIGCombiner(list(shares))) @ J3
    cosines = J3 @ direction / np.linalg.norm(J3, axis=1)
    np.testing.assert_allclose(cosines / np.sum(cosines), shares, rtol=1e-5)


@pytest.mark.parametrize("cls", PREFERRING)
def test_bad_preferences(cls):
    for preference in ("abc", 1.0, {1.0}):
        with pytest.raises(TypeError, match="`preference` must be None"):
            cls(preference=preference)
    for preference in ([1, -1], [1, None], [float("nan")], {"a": "1"}, [0, 0]):
        with pytest.raises(ValueError, match="finite, non-negative"):
            cls(preference=preference)
    with pytest.raises(ValueError, match="one entry for each"):
        cls(preference=[1, 2]).build(NAMES)
    with pytest.raises(ValueError, match=r"does not\s+have: \['d'\]"):
        cls(preference={"a": 1, "d": 1}).build(NAMES)


@pytest.mark.parametrize(
    "cls, arguments, message",
    [
        (AlignedMTLCombiner, {"scale": "mean"}, "`scale`"),
        (CAGradCombiner, {"c": -0.1}, "`c` must be"),
        (CAGradCombiner, {"c": float("nan")}, "`c` must be"),
        (CAGradCombiner, {"rescale": 2}, "`rescale`"),
        (DWACombiner, {"temperature": 0}, "`temperature` must be"),
        (DWACombiner, {"temperature": float("nan")}, "`temperature` must be"),
        (ExcessMTLCombiner, {"learning_rate": -1}, "`learning_rate` must be"),
        (ExcessMTLCombiner, {"warmup_steps": 0}, "`warmup_steps` must be"),
        (FAMOCombiner, {"decay": -0.1}, "`decay` must be.*decay=-0.1"),
        (FAMOCombiner, {"learning_rate": -1}, "`learning_rate` must be"),
        (FAMOCombiner, {"learning_rate": float("inf")}, "`learning_rate`"),
        (FAMOCombiner, {"min_losses": float("nan")}, "`min_losses` must be"),
        (FAMOCombiner, {"min_losses": {"a": -float("inf")}}, "`min_losses`"),
        (FairGradCombiner, {"alpha": 0}, "`alpha` must be"),
        (FairGradCombiner, {"alpha": float("inf")}, "`alpha` must be"),
        (GradNormCombiner, {"alpha": -1}, "`alpha` must be"),
        (GradNormCombiner, {"learning_rate": -1}, "`learning_rate` must be"),
        (GradVacCombiner, {"beta": 1.5}, "`beta` must be"),
        (KrumCombiner, {"byzantine": -1}, "`byzantine` must be"),
        (KrumCombiner, {"byzantine": 0.5}, "`byzantine` must be"),
        (KrumCombiner, {"selected": 0}, "`selected` must be"),
        (MoCo, {"combiner": IMTLGCombiner(), "rate": 0}, "`rate` must be"),
        (MoCo, {"combiner": IMTLGCombiner(), "rate": 2}, "`rate` must be"),
        (MoCo, {"combiner": IMTLGCombiner(), "decay": -1}, "`decay` must be"),
        (NashMTLCombiner, {"max_norm": 0}, "`max_norm` must be"),
        (NashMTLCombiner, {"max_norm": float("nan")}, "`max_norm` must be"),
        (PCDCombiner, {"tau": 1.5}, "`tau` must be"),
        (PCDCombiner, {"beta": 1}, "`beta` must be"),
        (RLWCombiner, {"seed": "x"}, "`seed` must be"),
        (STCHCombiner, {"smoothing": 0}, "`smoothing` must be.*smoothing=0"),
        (STCHCombiner, {"smoothing": float("inf")}, "`smoothing` must be"),
        (STCHCombiner, {"reference": [0, float("nan")]}, "`reference` must"),
    ],
)
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


@pytest.mark.parametrize(
    "cls, argument",
    [
        (DWACombiner, "temperature"),
        (ExcessMTLCombiner, "learning_rate"),
        (FAMOCombiner, "decay"),
        (FAMOCombiner, "learning_rate"),
        (FAMOCombiner, "min_losses"),
        (GradNormCombiner, "alpha"),
        (GradNormCombiner, "learning_rate"),
        (STCHCombiner, "reference"),
        (STCHCombiner, "smoothing"),
    ],
)
@pytest.mark.parametrize("value", ["0.1", None, ["x"]])
def test_arguments_of_the_wrong_type(cls, argument, value):
    with pytest.raises(TypeError, match=f"`{argument}` must.*Received"):
        cls(**{argument: value})


@pytest.mark.parametrize(
    "cls, argument",
    [(FAMOCombiner, "min_losses"), (STCHCombiner, "reference")],
)
def test_numbers_that_do_not_fit_the_objectives(cls, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*one entry for each"):
        cls(**{argument: [1, 2]}).build(NAMES)
    with pytest.raises(ValueError, match=rf"`{argument}`.*have: \['d'\]"):
        cls(**{argument: {"a": 1, "d": 1}}).build(NAMES)


def test_pcd_follows_an_objective_of_that_name():
    with pytest.raises(ValueError, match=r"`primary` must name one.*'d'"):
        PCDCombiner(primary="d").build(NAMES)
    orthogonal = weights(PCDCombiner("b", tau=0), gramian=np.diag([4.0, 9, 1]))
    np.testing.assert_allclose(orthogonal, [0, 1, 0], atol=1e-6)


def test_pcd_gives_up_what_can_not_be_done():
    """The second and third oppose each other; and then the first is 0."""
    rows = np.array([[1.0, 2], [0, 3], [0, -1]])
    gramian = rows @ rows.T
    found = weights(PCDCombiner(tau=0.1), gramian=gramian)
    np.testing.assert_allclose(found, [1, 0, 0], atol=1e-6)
    rows[0] = 0
    found = weights(PCDCombiner(tau=0.1), gramian=rows @ rows.T)
    np.testing.assert_array_equal(found, 0)


def test_mmpareto_of_orthogonal_gradients_is_their_sum():
    """They do not conflict: the weights are equal, whatever the lengths."""
    found = weights(MMParetoCombiner(), gramian=np.diag([1.0, 9.0]))
    np.testing.assert_allclose(found, [1.5, 1.5], rtol=1e-6)


def test_krum_needs_enough_objectives():
    with pytest.raises(ValueError, match="at least 4"):
        KrumCombiner().build(NAMES)
    with pytest.raises(ValueError, match="at least 5"):
        KrumCombiner(byzantine=0, selected=5).build([*NAMES, "d"])


def test_krum_leaves_the_outlier_out():
    rows = np.array([[1.0, 0], [1, 0.1], [1, -0.1], [1, 0.25], [-50, 70]])
    combiner = KrumCombiner(byzantine=1, selected=3)
    chosen = keras.ops.convert_to_numpy(combiner(np.ones(5), rows @ rows.T) > 0)
    np.testing.assert_array_equal(chosen, [True, True, True, False, False])


def krum(rows, selected):
    combiner = KrumCombiner(byzantine=1, selected=selected)
    found = combiner(np.ones(len(rows)), rows @ rows.T)
    return keras.ops.convert_to_numpy(found)


@pytest.mark.parametrize("selected", [1, 2, 3])
def test_krum_is_permutation_equivariant_at_ties(selected):
    """Two pairs of equals, a lone row, and an outlier."""
    rows = np.array([[0.0, 1], [0, 1], [1, 0], [1, 0], [5, 5], [90, 9]])
    # All four have the score 0 + 2 + 2.
    expected = np.array([1, 1, 1, 1, 0, 0]) / 4
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(6)
        found = krum(rows[order], selected)
        np.testing.assert_array_equal(found, expected[order])


def test_krum_shares_the_places_that_are_left():
    """Scores of 4, 2, 4, 5 and many: one is ahead, two are level."""
    rows = np.array([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1], [0, 9, 9]])
    np.testing.assert_array_equal(krum(rows, 1), [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(krum(rows, 2), [0.25, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(krum(rows, 3), [1 / 3, 1 / 3, 1 / 3, 0, 0])


@pytest.mark.parametrize(
    "rescale, factor", [(None, 1), ("linear", 1.5), ("square", 1.25)]
)
def test_cagrad_rescale(rescale, factor):
    scaled = weights(CAGradCombiner(0.5, rescale))
    np.testing.assert_allclose(
        scaled * factor, [0.550151, 0.586828, 0.333333], atol=1e-5
    )


def test_nash_limits_the_length():
    gramian = (J2 @ J2.T).astype("float32")
    for limit, length in ((None, 2**0.5), (5.0, 2**0.5), (0.5, 0.5)):
        direction = weights(NashMTLCombiner(limit), gramian=gramian) @ J2
        np.testing.assert_allclose(np.linalg.norm(direction), length, rtol=1e-5)


def test_imtlg_projections_are_equal_and_weights_sum_to_1():
    found = weights(IMTLGCombiner())
    projections = J3 @ (found @ J3) / np.linalg.norm(J3, axis=1)
    np.testing.assert_allclose(projections, projections[0], rtol=1e-5)
    np.testing.assert_allclose(np.sum(found), 1, rtol=1e-6)


@pytest.mark.parametrize("combiner", [IMTLGCombiner(), ConFIGCombiner()])
def test_opposite_gradients_have_no_common_projection(combiner):
    for seed in range(8):
        row = np.random.default_rng(seed).normal(size=9)
        rows = np.array([row, -(seed + 1) * row], "float32")
        arguments = np.ones(2, "float32"), rows @ rows.T
        found = keras.ops.convert_to_numpy(combiner(*arguments))
        np.testing.assert_array_equal(found, 0)


def test_fairgrad_equation():
    found = weights(FairGradCombiner(alpha=2.0))
    np.testing.assert_allclose(J3 @ (found @ J3), found**-0.5, rtol=1e-5)


def test_gradvac_raises_the_cosine_to_the_average():
    """Two steps by hand, at one conflict and then none."""
    combiner = GradVacCombiner(beta=0.25)
    cosine = np.array([[1, 0.8], [0.8, 1]])
    combiner(np.ones(2), cosine)
    average = keras.ops.convert_to_numpy(combiner.average_cosines)
    np.testing.assert_allclose(average, [[0, 0.2], [0.2, 0]], rtol=1e-6)
    # Orthogonal unit vectors, to a cosine of .2: tan(asin(.2)) is added.
    combiner(np.ones(2), np.eye(2))
    found = keras.ops.convert_to_numpy(
        combiner(np.ones(2), np.eye(2), training=False)
    )
    target = 0.15
    np.testing.assert_allclose(
        found, [1 + target / np.sqrt(1 - target**2)] * 2, rtol=1e-5
    )


def test_gradvac_keeps_the_averages_of_what_is_absent():
    combiner = GradVacCombiner()
    combiner.build(NAMES)
    combiner(LOSSES, GRAMIAN)
    before = keras.ops.convert_to_numpy(combiner.average_cosines).copy()
    combiner(LOSSES, 0 * GRAMIAN + 1, [True, True, False])
    after = keras.ops.convert_to_numpy(combiner.average_cosines)
    np.testing.assert_array_equal(after[2], before[2])
    np.testing.assert_array_equal(after[:, 2], before[:, 2])
    assert np.all(after[:2, :2] != before[:2, :2]) or before[0, 0] == 0
    np.testing.assert_allclose(after[0, 1], (1 + before[0, 1]) / 2, rtol=1e-5)


def test_gradvac_with_equal_gradients_for_long():
    """No finite step would give the cosine of 1 that they have had."""
    combiner = GradVacCombiner(beta=1.0)
    ones = np.ones((2, 2), "float32")
    combiner(np.ones(2), ones)
    similar = np.array([[1, 1 - 1e-6], [1 - 1e-6, 1]], "float32")
    found = keras.ops.convert_to_numpy(combiner(np.ones(2), similar))
    np.testing.assert_allclose(found, [1, 1], atol=0.1)
