"""Combiners with state for every coordinate of the gradients."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import ExcessMTLCombiner
from keras_mimo.combiners import MoCo
from keras_mimo.combiners import Smoothed

NAMES = ["a", "b", "c"]
SIZES = (3, 2)


def array(x):
    return ops.convert_to_numpy(x).copy()


def built(combiner, sizes=SIZES):
    combiner.row_sizes = sizes
    combiner.build(NAMES)
    return combiner


def steps(count=6):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, sum(SIZES))) for _ in range(count)]


def take(combiner, rows, active=None, training=True):
    """Weights, and the update in the coordinates of all variables."""
    parts = np.split(rows.astype("float32"), [SIZES[0]], axis=1)
    seen, weighted = combiner.show(parts, active, training)
    gramian = sum(array(m) @ array(m).T for m in seen)
    losses = np.ones(3, "float32")
    weights = array(combiner(losses, gramian, active, training))
    return weights, np.hstack([weights @ array(m) for m in weighted])


class ExcessByHand:
    """The formula of the paper, for objectives all there."""

    def __init__(self, rate, warmup):
        self.rate, self.warmup = rate, warmup
        self.squares, self.risks, self.weights = 0, [], np.full(3, 1 / 3)

    def step(self, rows):
        self.squares = self.squares + rows**2
        risks = np.sum(rows**2 / np.sqrt(self.squares), axis=1)
        if len(self.risks) < self.warmup:
            self.risks.append(risks)
        else:
            growth = np.exp(self.rate * risks / np.mean(self.risks, axis=0))
            self.weights = self.weights * growth
            self.weights = self.weights / np.sum(self.weights)
        return self.weights


@pytest.mark.parametrize("rate, warmup", [(0.01, 1), (1.0, 3)])
def test_excess_mtl_by_hand(rate, warmup):
    combiner = built(ExcessMTLCombiner(rate, warmup))
    hand = ExcessByHand(rate, warmup)
    for rows in steps():
        expected = hand.step(rows)
        # Looking changes nothing.
        found, _ = take(combiner, rows, training=False)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        found, update = take(combiner, rows)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(update, found @ rows, rtol=1e-4, atol=1e-6)
    assert np.ptp(hand.weights) > 0.1 * rate


def test_excess_mtl_gives_more_weight_to_what_is_not_done():
    """Its gradients are still what they were, of whatever length."""
    combiner = built(ExcessMTLCombiner(0.1))
    signal = steps(1)[0][0]
    for step in range(20):
        scales = np.array([1e-3, 0.9**step, 0.7**step])
        weights, _ = take(combiner, scales[:, None] * signal)
    assert weights[0] > weights[1] > weights[2]


@pytest.mark.parametrize("rate, decay", [(0.5, 0.5), (0.1, 0.0), (1.0, 0.0)])
def test_moco_by_hand(rate, decay):
    combiner = built(MoCo(keras_mimo.MGDACombiner(), rate, decay))
    average, mass = 0.0, 0.0
    for step, rows in enumerate(steps(4), start=1):
        share = rate / step**decay
        average = (1 - share) * average + share * rows
        mass = (1 - share) * mass + share
        mean = average / mass
        inner = keras_mimo.MGDACombiner()
        expected = array(inner(np.ones(3), mean @ mean.T))
        # Looking changes nothing.
        take(combiner, rows, training=False)
        weights, update = take(combiner, rows)
        np.testing.assert_allclose(weights, expected, atol=1e-5)
        np.testing.assert_allclose(update, expected @ mean, atol=1e-5)


def test_moco_takes_noise_out():
    """The direction is nearer to that of no noise, and not only its weights."""
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(3, sum(SIZES)))
    moco = built(MoCo(keras_mimo.MGDACombiner()))
    smoothed = Smoothed(keras_mimo.MGDACombiner(), 0.5, of="gramian")
    weights = array(keras_mimo.MGDACombiner()(np.ones(3), exact @ exact.T))
    errors = []
    for _ in range(40):
        rows = exact + rng.normal(size=exact.shape)
        _, update = take(moco, rows)
        found = array(smoothed(np.ones(3), rows @ rows.T)) @ rows
        errors.append([found - weights @ exact, update - weights @ exact])
    of_smoothed, of_moco = np.linalg.norm(errors[20:], axis=-1).mean(axis=0)
    assert of_moco < 0.5 * of_smoothed


@pytest.mark.slow
def test_moco_that_keeps_nothing_is_the_combiner():
    updates = []
    for combiner in (
        keras_mimo.MGDACombiner(),
        MoCo(keras_mimo.MGDACombiner(), rate=1.0, decay=0),
    ):
        trained = model(combiner)
        for _ in range(3):
            trained.train_on_batch(*data())
        updates.append(weights_of(trained))
    for a, b in zip(*updates, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExcessMTLCombiner(1.0),
        lambda: MoCo(Smoothed(keras_mimo.MGDACombiner())),
    ],
    ids=["ExcessMTL", "MoCo"],
)
def test_an_absent_objective_keeps_its_state(make):
    combiner = built(make())
    first, second, third, *_ = steps()
    take(combiner, first)
    take(combiner, second)
    before = [array(v) for v in combiner.variables]
    active = np.array([True, False, True])
    third[1] = np.nan
    weights, update = take(combiner, third, active)
    assert weights[1] == 0 and np.all(np.isfinite(update))
    for was, v in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v)[1], was[1])
    assert np.all(array(combiner.kept[0])[active] != before[0][active])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_is_not_finite_changes_nothing_and_is_seen(bad):
    combiner = built(ExcessMTLCombiner())
    rows = steps(1)[0]
    take(combiner, rows)
    before = [array(v) for v in combiner.variables]
    rows[1, 2] = bad
    with np.errstate(all="ignore"):
        weights, update = take(combiner, rows)
    np.testing.assert_array_equal(weights, 1)
    np.testing.assert_array_equal(update, np.sum(rows, axis=0, dtype="float32"))
    for was, v in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), was)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4)).astype("float32")
    targets = [x[:, :1], -x[:, :1] + x[:, 1:2], x[:, 2:3] ** 2]
    return x, dict(zip(NAMES, targets, strict=True))


def model(combiner, rate=0.05, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(6, activation="tanh", name="shared")(inputs)
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    model = keras_mimo.BalancedModel(inputs, outputs)
    optimizer = keras.optimizers.SGD(rate)
    model.compile(optimizer, "mse", combiner=combiner, **options)
    return model


def weights_of(model):
    return [array(v) for v in model.trainable_variables]


@functools.cache
def of_one(name):
    return model(keras_mimo.ConstantCombiner({name: 1.0}), rate=1.0)


def gradient_of(name, at):
    """That of one objective, by a step of length 1."""
    alone = of_one(name)
    alone.set_weights(at)
    alone.train_on_batch(*data())
    return [a - b for a, b in zip(at, alone.get_weights(), strict=True)]


def rows_of(model):
    """The K gradients of a model with respect to each variable."""
    at = model.get_weights()
    return list(zip(*(gradient_of(n, at) for n in NAMES), strict=True))


@pytest.mark.parametrize("chosen", [None, ["shared/kernel", "shared/bias"]])
def test_a_model_shows_the_gradients_of_balanced_variables(chosen):
    trained = model(ExcessMTLCombiner(1.0), balanced_variables=chosen)
    hand = ExcessByHand(1.0, 1)
    for _ in range(3):
        variables = rows_of(trained)
        before = trained.get_weights()
        balanced = variables if chosen is None else variables[:2]
        flat = [np.reshape(v, (3, -1)) for v in balanced]
        matrix = np.hstack(flat).astype("float64")
        # No objective reaches another's head: 0 / 0 is 0.
        hand.squares = np.where(matrix == 0, 1, hand.squares)
        expected = hand.step(matrix)
        logs = trained.train_on_batch(*data(), return_dict=True)
        found = [logs[f"{name}_weight"] for name in NAMES]
        trained.reset_metrics()
        np.testing.assert_allclose(found, expected, rtol=1e-3)
        for rows, was, now in zip(
            variables, before, trained.get_weights(), strict=True
        ):
            update = np.tensordot(expected, np.array(rows), 1)
            np.testing.assert_allclose(was - 0.05 * update, now, atol=1e-5)
    sizes = [24, 6] if chosen else [24, 6, *3 * [6, 1]]
    assert [int(v.shape[1]) for v in trained.combiner.kept] == sizes


@pytest.mark.parametrize(
    "make, options",
    [
        (lambda: ExcessMTLCombiner(0.1), {"blocks": "layer"}),
        pytest.param(
            lambda: MoCo(Smoothed(keras_mimo.MGDACombiner())),
            {},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ExcessMTL", "MoCo"],
)
def test_training_goes_on_after_loading(make, options, tmp_path):
    trained = model(make(), **options)
    fit = dict(batch_size=8, shuffle=False, verbose=0)
    history = trained.fit(*data(), epochs=4, **fit).history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (trained, loaded):
        each.fit(*data(), epochs=1, **fit)
    for a, b in zip(weights_of(trained), weights_of(loaded), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_rows_are_those_without_loss_scaling():
    kept = []
    for scaled in (False, True):
        trained = model(ExcessMTLCombiner())
        optimizer = keras.optimizers.SGD(0.05)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 64.0)
        trained.compile(optimizer, "mse", combiner=ExcessMTLCombiner())
        trained.train_on_batch(*data())
        kept.append(array(trained.combiner.kept[0]))
        updated = weights_of(trained)
        kept.extend(updated)
    count = len(kept) // 2
    for a, b in zip(kept[:count], kept[count:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_table_of_which_a_batch_reaches_few_rows():
    """What is kept is of all rows."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(9, 3)(inputs))
    outputs = {name: layers.Dense(1, name=name)(x) for name in NAMES}
    trained = keras_mimo.BalancedModel(inputs, outputs)
    trained.compile("sgd", "mse", combiner=ExcessMTLCombiner())
    for tokens in ([[0, 1], [1, 2]], [[7, 8], [8, 2]]):
        y = {name: np.ones((2, 1), "float32") for name in NAMES}
        trained.train_on_batch(np.array(tokens, "int32"), y)
    kept = array(trained.combiner.kept[0]).reshape(3, 9, 3)
    reached = np.any(kept > 0, axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(reached), [0, 1, 2, 7, 8])


def test_a_built_combiner_fits_no_other_variables():
    trained = model(ExcessMTLCombiner())
    trained.train_on_batch(*data())
    other = model(trained.combiner, balanced_variables="backbone")
    with pytest.raises(ValueError, match="`combiner` was built for balanced"):
        other.train_on_batch(*data())


def test_refused():
    with pytest.raises(ValueError, match="`gradients_at` is for combiners"):
        model(ExcessMTLCombiner(), gradients_at="shared")
    for wrapper in (MoCo, Smoothed):
        with pytest.raises(ValueError, match="does not show it the gradients"):
            wrapper(ExcessMTLCombiner())
