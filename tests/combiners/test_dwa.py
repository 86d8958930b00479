"""What DWA keeps of the epochs, and when `fit()` tells it of their end."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from keras_mimo.combiners import DWACombiner
from keras_mimo.combiners import Smoothed
from tests.backends import double_precision

NAMES = ["a", "b", "c"]


def array(x):
    return ops.convert_to_numpy(x).copy()


def softmax(scores):
    terms = np.exp(scores - np.max(scores))
    return terms / np.sum(terms)


def by_hand(last, before, temperature=2.0):
    ratios = np.array(last) / np.array(before)
    return len(ratios) * softmax(ratios / temperature)


def built(**arguments):
    combiner = DWACombiner(**arguments)
    combiner.build(NAMES)
    return combiner


def epoch(combiner, *batches, active=None):
    """Weights during the epoch, which do not change in it."""
    found = [array(combiner(np.array(b), active=active)) for b in batches]
    for weights in found:
        np.testing.assert_array_equal(weights, found[0])
    combiner.on_epoch_end()
    return found[0]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_epochs_by_hand(temperature):
    combiner = built(temperature=temperature)
    with double_precision():
        for expected, batches in [
            (np.ones(3), [[4.0, 3, 2], [2, 1, 2]]),
            (np.ones(3), [[2.0, 1, 2], [1, 1, 4], [0, 1, 3]]),
            # Means (3, 2, 2) and (1, 1, 3).
            (by_hand([1, 1, 3], [3, 2, 2], temperature), [[2.0, 2, 2]]),
            (by_hand([2, 2, 2], [1, 1, 3], temperature), [[1.0, 1, 1]]),
        ]:
            found = epoch(combiner, *batches)
            assert found.dtype == "float64"
            # The means are float32.
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_slowest_gets_most_and_the_sum_is_the_count():
    combiner = built()
    epoch(combiner, [1.0, 1, 1])
    epoch(combiner, [1.1, 0.9, 0.2])
    weights = array(combiner(np.ones(3, "float32")))
    assert weights[0] > weights[1] > weights[2]
    np.testing.assert_allclose(np.sum(weights), 3, rtol=1e-6)
    active = np.array([True, False, True])
    weights = array(combiner(np.ones(3, "float32"), active=active))
    expected = np.insert(by_hand([1.1, 0.2], [1, 1]), 1, 0)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_absent_batches_do_not_count():
    combiner = built()
    combiner([2.0, 2, 2])
    epoch(combiner, [4.0, float("nan"), 4], active=[True, False, True])
    epoch(combiner, [1.0, 1, 1])
    weights = array(combiner(np.ones(3, "float32")))
    expected = by_hand([1, 1, 1], [3, 2, 3])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_an_epoch_without_a_batch_keeps_the_last_mean():
    absent = [True, False, True]
    combiner = built()
    epoch(combiner, [2.0, 2, 2])
    epoch(combiner, [1.0, 9, 1], active=absent)
    weights = array(combiner(np.ones(3, "float32"), training=False))
    expected = by_hand([1, 2, 1], [2, 2, 2])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    epoch(combiner, [1.0, 1, 1])
    weights = array(combiner(np.ones(3, "float32"), training=False))
    expected = by_hand([1, 1, 1], [1, 2, 1])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_an_objective_that_comes_later_starts_at_the_ratio_1():
    absent = [True, False, True]
    combiner = built()
    epoch(combiner, [2.0, 9, 2], active=absent)
    epoch(combiner, [1.0, 4, 1])
    weights = array(combiner(np.ones(3, "float32"), training=False))
    expected = by_hand([1, 1, 1], [2, 1, 2])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    epoch(combiner, [1.0, 2, 1])
    weights = array(combiner(np.ones(3, "float32"), training=False))
    expected = by_hand([1, 2, 1], [1, 4, 1])
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("first, last", [(0, 1), (-2, 1), (1e-37, 1e30)])
def test_means_without_a_usable_ratio(first, last):
    combiner = built(temperature=0.1)
    epoch(combiner, np.array([first, 1, 1], "float32"))
    epoch(combiner, np.array([last, 1, 1], "float32"))
    weights = array(combiner(np.ones(3, "float32")))
    # Unknown, or beyond all bounds.
    expected = [1, 1, 1] if first <= 0 else [3, 0, 0]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_only_good_steps_of_training_count():
    combiner = built()
    combiner([1.0, 2, 3])
    before = [array(v) for v in combiner.variables]
    combiner([7.0, 7, 7], training=False)
    combiner([1.0, float("nan"), 3])
    for old, v in zip(before, combiner.variables, strict=True):
        np.testing.assert_array_equal(array(v), old)
    np.testing.assert_array_equal(array(combiner.count), [1, 1, 1])


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4)).astype("float32")
    return x, {"a": 2 * x[:, :1], "b": x[:, 1:2] ** 2 - 3}


def model(combiner, rate=0.05):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    shared = layers.Dense(6, activation="tanh")(inputs)
    outputs = {name: layers.Dense(1)(shared) for name in ("a", "b")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(rate), "mse", combiner=combiner)
    return model


OPTIONS = dict(batch_size=8, verbose=0)


class Recorder(keras.callbacks.Callback):
    """The last means, as any callback of the user finds them."""

    def __init__(self):
        super().__init__()
        self.means = []

    def on_epoch_end(self, epoch, logs=None):
        combiner = self.model.combiner
        combiner = getattr(combiner, "combiner", combiner)
        self.means.append(array(combiner.last_mean))


def assert_weights_follow_the_losses(history, recorder):
    """Batches of one size: the epoch's loss is the mean over the batches."""
    losses = np.array([history["a_loss"], history["b_loss"]]).T
    weights = np.array([history["a_weight"], history["b_weight"]]).T
    np.testing.assert_allclose(recorder.means, losses, rtol=1e-5)
    np.testing.assert_allclose(weights[:2], 1, rtol=1e-6)
    for t in range(2, len(losses)):
        expected = by_hand(losses[t - 1], losses[t - 2])
        np.testing.assert_allclose(weights[t], expected, rtol=1e-5)
    assert np.all(np.abs(weights[2:] - 1) > 1e-3)


@pytest.mark.parametrize("kind", ["one", "list", "tuple", "container"])
def test_fit_tells_of_the_end_of_an_epoch(kind):
    x, y = data()
    trained = model(DWACombiner())
    recorder = Recorder()
    callbacks = {
        "one": recorder,
        "list": [recorder],
        "tuple": (recorder,),
    }.get(kind)
    if kind == "container":
        callbacks = keras.callbacks.CallbackList(
            [recorder], add_history=True, model=trained
        )
    # What is evaluated is another matter than what is trained on.
    validation = (x[:8], {n: 100 * v[:8] for n, v in y.items()})
    options = dict(OPTIONS, epochs=4, callbacks=callbacks)
    history = trained.fit(x, y, validation_data=validation, **options).history
    assert_weights_follow_the_losses(history, recorder)
    if kind == "container":
        # Once more with the same container: told once an epoch, not twice.
        before = recorder.means[-1]
        trained.fit(x, y, **dict(options, epochs=1))
        np.testing.assert_array_equal(
            array(trained.combiner.mean_before), before
        )


def test_fit_without_callbacks_and_fit_again():
    x, y = data()
    trained = model(DWACombiner())
    losses = []
    for _ in range(3):
        history = trained.fit(x, y, **OPTIONS).history
        losses.append([history["a_loss"][0], history["b_loss"][0]])
    weights = [history["a_weight"][0], history["b_weight"][0]]
    np.testing.assert_allclose(
        weights, by_hand(losses[1], losses[0]), rtol=1e-5
    )
    np.testing.assert_allclose(array(trained.combiner.last_mean), losses[2])


def test_wrapped():
    x, y = data()
    recorder = Recorder()
    trained = model(Smoothed(DWACombiner(), momentum=0.0))
    history = trained.fit(
        x, y, epochs=4, callbacks=[recorder], **OPTIONS
    ).history
    assert_weights_follow_the_losses(history, recorder)


def test_a_checkpoint_is_of_the_state_after_the_epoch(tmp_path):
    """Going on from it is as if nothing had happened."""
    x, y = data()
    path = str(tmp_path / "{epoch}.keras")
    checkpoint = keras.callbacks.ModelCheckpoint(path)
    trained = model(DWACombiner())
    options = dict(OPTIONS, shuffle=False)
    history = trained.fit(
        x, y, epochs=4, callbacks=[checkpoint], **options
    ).history
    loaded = keras.saving.load_model(tmp_path / "2.keras")
    np.testing.assert_array_equal(array(loaded.combiner.count), [0, 0])
    last = [history["a_loss"][1], history["b_loss"][1]]
    np.testing.assert_allclose(
        array(loaded.combiner.last_mean), last, rtol=1e-5
    )
    continued = loaded.fit(x, y, epochs=4, initial_epoch=2, **options).history
    for name in ("loss", "a_weight", "b_weight"):
        np.testing.assert_allclose(
            continued[name], history[name][2:], rtol=1e-5
        )
