import pickle

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.datasets import Samples

LABELS = np.arange(10) % 3


def read(index):
    return {
        "a": np.full((4,), index, "float32"),
        "b": np.full((2, 3), -index, "float32"),
    }


def indices(samples):
    return np.concatenate(
        [samples[i][0]["a"][:, 0] for i in range(len(samples))]
    )


def test_batches_in_order():
    samples = Samples(read, LABELS, batch_size=4)
    assert len(samples) == 3
    x, y = samples[2]
    assert x["a"].shape == (2, 4) and x["b"].shape == (2, 2, 3)
    np.testing.assert_array_equal(x["b"][:, 0, 0], [-8, -9])
    np.testing.assert_array_equal(y, LABELS[8:])
    samples.on_epoch_end()
    np.testing.assert_array_equal(indices(samples), np.arange(10))
    with pytest.raises(IndexError, match="no batch 3 of 3"):
        samples[3]


def test_an_epoch_that_is_set_has_the_order_it_had():
    samples = Samples(read, LABELS, shuffle=True, seed=3)
    orders = []
    for _ in range(3):
        orders.append(indices(samples))
        samples.on_epoch_end()
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    again = Samples(read, LABELS, shuffle=True, seed=3)
    again.epoch = 2
    np.testing.assert_array_equal(indices(again), orders[2])
    other = Samples(read, LABELS, shuffle=True, seed=4)
    assert (indices(other) != orders[0]).any()


def test_subsets_have_the_same_options():
    samples = Samples(
        read, LABELS, batch_size=3, shuffle=True, seed=3, workers=2
    )
    chosen = [1, 9, 4, 5]
    part = samples.subset(chosen)
    np.testing.assert_array_equal(part.labels, LABELS[chosen])
    assert sorted(indices(part)) == sorted(chosen)
    assert (part.batch_size, part.shuffle, part.seed) == (3, True, 3)
    assert part.workers == 2
    # As several processes need it.
    again = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(indices(again), indices(part))
    plain = Samples(read, LABELS).subset(chosen).subset([3, 0])
    np.testing.assert_array_equal(indices(plain), [5, 1])


def two_inputs():
    a = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    b = keras.Sequential([keras.Input((2, 3)), keras.layers.Flatten()])
    model = keras_mimo.late_fusion({"a": a, "b": b}, num_classes=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, combiner="sum")
    return model


@pytest.mark.slow
def test_a_run_that_goes_on_sees_what_it_would_have_seen():
    seen = []

    def noted(index):
        seen.append(index)
        return read(index)

    def run(**epochs):
        samples = Samples(noted, LABELS, batch_size=4, shuffle=True)
        samples.epoch = epochs.get("initial_epoch", 0)
        seen.clear()
        two_inputs().fit(samples, shuffle=False, verbose=0, **epochs)
        # Keras may read a batch before, to build the model.
        return seen[-10:]

    whole = run(epochs=3)
    assert sorted(whole) == list(range(10))
    assert run(epochs=3, initial_epoch=2) == whole
    assert run(epochs=2) != whole


@pytest.mark.slow
def test_a_model_trains_with_workers():
    samples = Samples(
        lambda i: {name: x / 10 for name, x in read(i).items()},
        np.repeat([0, 1], 5),
        batch_size=4,
        workers=2,
    )
    model = two_inputs()
    model.optimizer.learning_rate = 0.03
    history = model.fit(samples, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_what_is_given_is_checked():
    with pytest.raises(TypeError, match=r"`read` must be a function.*None"):
        Samples(None, LABELS)
    with pytest.raises(ValueError, match=r"`labels` must have an entry"):
        Samples(read, [])
    with pytest.raises(ValueError, match="batch_size"):
        Samples(read, LABELS, batch_size=0)
