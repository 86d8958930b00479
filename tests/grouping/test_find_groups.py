import keras
import numpy as np
import pytest
from keras import layers

from keras_mimo.grouping import find_groups

SIDES = np.array([1, -1, -1, 1, 1, -1])


def planted():
    """A model and data with two sets of classes that pull against each other.

    Each class has its own positive features, and its logit is the hidden unit
    times its side: to raise it, the kernel must grow for one set of classes and
    shrink for the other.
    """
    inputs = keras.Input((4,))
    hidden = layers.Dense(1, use_bias=False)(inputs)
    head = layers.Dense(len(SIDES), use_bias=False)
    model = keras.Model(inputs, head(hidden))
    head.set_weights([SIDES[None, :].astype("float32")])
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(SIDES)), 5)
    return model, (rng.uniform(0.5, 1.5, size=(len(y), 4)), y)


@pytest.mark.parametrize("options", [{}, {"projection": 16}])
def test_planted_groups_are_found(options):
    model, dataset = planted()
    found = find_groups(model, dataset, 2, 6, verbose=0, **options)
    assert found.groups == [[0, 3, 4], [1, 2, 5]]
    np.testing.assert_array_equal(found.counts, np.full(6, 5))
    assert found.affinity.shape == (6, 6)
    same = SIDES == SIDES[:, None]
    assert found.affinity[same].min() > 1.5
    assert found.affinity[~same].max() < 0.5


def test_groups_permute_with_classes():
    model, (x, y) = planted()
    order = np.array([3, 1, 0, 5, 2, 4])
    head = model.layers[-1]
    head.set_weights([head.get_weights()[0][:, np.argsort(order)]])
    found = find_groups(model, (x, order[y]), 2, 6, verbose=0)
    expected = [sorted(order[[0, 3, 4]]), sorted(order[[1, 2, 5]])]
    assert found.groups == sorted(expected)


def test_empty_classes_join_the_largest_group():
    model, (x, y) = planted()
    seen = np.isin(y, [0, 1, 2, 5])
    found = find_groups(model, (x[seen], y[seen]), 2, 6, verbose=0)
    assert found.groups == [[0], [1, 2, 3, 4, 5]]
    np.testing.assert_array_equal(found.affinity[3], np.ones(6))
    with pytest.raises(ValueError, match="for 4 of 6 classes"):
        find_groups(model, (x[seen], y[seen]), 5, 6, verbose=0)


def test_groups_out_of_range_before_any_work():
    with pytest.raises(ValueError, match="num_groups=7 for 6"):
        find_groups(None, None, 7, 6)
