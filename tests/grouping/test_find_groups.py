import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from keras_mimo.datasets import long_tail
from keras_mimo.grouping import ClassGrouping
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


@pytest.mark.parametrize(
    "options", [{}, {"projection": 16}, {"method": "released"}]
)
def test_planted_groups_are_found(options):
    model, dataset = planted()
    found = find_groups(model, dataset, 2, 6, verbose=0, **options)
    assert found.groups == [[0, 3, 4], [1, 2, 5]]
    np.testing.assert_array_equal(found.counts, np.full(6, 5))
    assert found.affinity.shape == (6, 6)
    same = SIDES == SIDES[:, None]
    assert found.affinity[same].min() > 1.5
    assert found.affinity[~same].max() < 0.5
    assert found.cosine_inside_groups > 0.5
    assert found.cosine_between_groups < -0.5


def test_the_mean_cosines():
    cosines = np.array(
        [
            [1.0, 0.6, 0.0, -0.2, -0.4],
            [0.6, 1.0, 0.0, 0.1, -0.3],
            # Without a gradient: a class that counts nowhere.
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [-0.2, 0.1, 0.0, 1.0, 0.2],
            [-0.4, -0.3, 0.0, 0.2, 1.0],
        ]
    )
    groups = [[0, 1, 2], [3, 4]]
    found = ClassGrouping(groups, cosines + 1, np.array([4, 3, 0, 2, 1]))
    assert found.cosine_inside_groups == pytest.approx((0.6 + 0.2) / 2)
    expected = (-0.2 - 0.4 + 0.1 - 0.3) / 4
    assert found.cosine_between_groups == pytest.approx(expected)
    together = ClassGrouping([[0, 1, 2, 3, 4]], cosines + 1, found.counts)
    assert together.cosine_inside_groups == pytest.approx(0.0)
    assert np.isnan(together.cosine_between_groups)
    apart = [[0], [1], [2], [3], [4]]
    alone = ClassGrouping(apart, cosines + 1, found.counts)
    assert np.isnan(alone.cosine_inside_groups)
    assert alone.cosine_between_groups == pytest.approx(0.0)


def trained(seed):
    """A network that has learnt a little of ten kinds of patterns.

    Long-tailed, and in pairs that look alike.
    """
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(10), 100)
    centres = rng.normal(size=(5, 20)).repeat(2, 0)
    centres = centres + 0.5 * rng.normal(size=centres.shape)
    x = (centres[y] + rng.normal(size=(len(y), 20))).astype("float32")
    x, y = long_tail(x, y, 0.1, seed=seed)
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((20,))
    hidden = layers.Dense(16, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(10)(hidden))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    return model, (x, y)


@pytest.mark.parametrize("seed", range(3))
def test_real_gradients_agree_more_than_in_random_groups(seed):
    model, dataset = trained(seed)
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(10), (100, 1)), axis=1
    )
    for num_groups in (2, 4, 6):
        found = find_groups(model, dataset, num_groups, 10, verbose=0)
        ends = np.cumsum([len(group) for group in found.groups])[:-1]
        # Of the same sizes.
        random = [
            dataclasses.replace(found, groups=np.split(classes, ends))
            for classes in order
        ]
        cosines = [grouping.cosine_inside_groups for grouping in random]
        assert found.cosine_inside_groups > np.mean(cosines)
        assert found.cosine_inside_groups > found.cosine_between_groups


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


def test_bad_arguments_before_any_work():
    with pytest.raises(ValueError, match="num_groups=7 for 6"):
        find_groups(None, None, 7, 6)
    with pytest.raises(ValueError, match="method='average'"):
        find_groups(None, None, 2, 6, method="average")
