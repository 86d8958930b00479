import builtins
import warnings

import numpy as np
import pytest

from keras_mimo.grouping import class_affinity
from keras_mimo.grouping import spectral_groups
from keras_mimo.grouping import ward_groups

both = pytest.mark.parametrize("group", [ward_groups, spectral_groups])


def affinity(num_classes, seed):
    rows = np.random.default_rng(seed).normal(size=(num_classes, 6))
    return class_affinity(rows @ rows.T)


def bundles(sizes, seed=0, noise=0.3):
    """Affinity of classes whose gradients lie around a few directions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(sizes), 40))
    rows = np.repeat(centres, sizes, axis=0)
    rows = rows + noise * rng.normal(size=rows.shape)
    return class_affinity(rows @ rows.T)


def test_affinity():
    rows = np.array([[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [3.0, 3.0]])
    found = class_affinity(rows @ rows.T)
    half = 1 / np.sqrt(2)
    expected = [
        [2, 0, 1, 1 + half],
        [0, 2, 1, 1 - half],
        [1, 1, 1, 1],
        [1 + half, 1 - half, 1, 2],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("scale", [1e-40, 1e40])
def test_affinity_does_not_depend_on_the_scale(scale):
    rows = np.random.default_rng(0).normal(size=(5, 3))
    expected = class_affinity(rows @ rows.T)
    rows[1:3] *= scale
    found = class_affinity(rows @ rows.T)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.min() >= 0 and found.max() <= 2


def test_an_estimate_may_have_cosines_beyond_one():
    found = class_affinity([[1.0, -1.5], [-1.5, 1.0]])
    np.testing.assert_array_equal(found, [[2, 0], [0, 2]])


def test_bad_matrices():
    functions = [lambda m: ward_groups(m, 1), lambda m: spectral_groups(m, 1)]
    for function in (class_affinity, *functions):
        with pytest.raises(ValueError, match="square"):
            function(np.ones((2, 3)))
        with pytest.raises(ValueError, match="finite"):
            function(np.array([[1.0, np.nan], [np.nan, 1.0]]))


@both
def test_bundles_are_found(group):
    groups = group(bundles([3, 5, 2, 4]), 4)
    assert groups == [
        [0, 1, 2],
        [3, 4, 5, 6, 7],
        [8, 9],
        [10, 11, 12, 13],
    ]


@both
@pytest.mark.parametrize("num_classes", [5, 12, 40])
@pytest.mark.parametrize("num_groups", [2, 3, 4])
def test_groups_permute_with_classes(group, num_classes, num_groups):
    for seed in range(3):
        matrix = affinity(num_classes, seed)
        groups = group(matrix, num_groups)
        assert sorted(np.concatenate(groups)) == list(range(num_classes))
        assert [classes[0] for classes in groups] == sorted(map(min, groups))
        order = np.random.default_rng(seed).permutation(num_classes)
        permuted = group(matrix[np.ix_(order, order)], num_groups)
        back = sorted(sorted(order[classes].tolist()) for classes in permuted)
        assert back == groups


@both
def test_deterministic(group):
    matrix = affinity(30, 0)
    np.random.seed(0)
    first = group(matrix, 4)
    np.random.seed(1)
    assert group(matrix, 4) == first


@both
def test_opposite_classes_have_no_affinity(group):
    """A graph in two pieces, and nothing to warn of."""
    sides = np.array([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])
    matrix = class_affinity(np.outer(sides, sides))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert group(matrix, 2) == [[0, 3, 4], [1, 2, 5]]


@pytest.mark.parametrize("seed", range(3))
def test_opposite_classes_share_a_group_only_as_released(seed):
    """Two pairs of opposites, and classes that have little to do with any."""
    rows = np.eye(6)[[0, 0, 1, 1, 2, 3, 4, 5]]
    rows[[1, 3]] *= -1
    rows += 0.1 * np.random.default_rng(seed).normal(size=rows.shape)
    matrix = class_affinity(rows @ rows.T)
    released = spectral_groups(matrix, 6)
    assert released == [[0, 1], [2, 3], [4], [5], [6], [7]]
    found = ward_groups(matrix, 6)
    assert not any({0, 1} <= set(g) or {2, 3} <= set(g) for g in found)


def test_ward_joins_what_spreads_least():
    """Computed by hand, with angles for gradients."""
    angles = np.radians([0, 20, 50, 180, 190])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    matrix = class_affinity(rows @ rows.T)
    assert ward_groups(matrix, 4) == [[0], [1], [2], [3, 4]]
    assert ward_groups(matrix, 3) == [[0, 1], [2], [3, 4]]
    assert ward_groups(matrix, 2) == [[0, 1, 2], [3, 4]]


def test_an_estimate_need_not_be_of_any_gradients():
    """Its negative eigenvalues are noise."""
    matrix = bundles([4, 4, 4])
    noise = np.random.default_rng(0).normal(scale=0.05, size=matrix.shape)
    noisy = np.clip(matrix + noise + noise.T, 0.0, 2.0)
    np.fill_diagonal(noisy, 2.0)
    assert np.linalg.eigvalsh(noisy - 1.0).min() < -0.1
    assert ward_groups(noisy, 3) == ward_groups(matrix, 3)


@both
def test_as_few_and_as_many_groups_as_can_be(group):
    matrix = affinity(4, 0)
    assert group(matrix, 1) == [[0, 1, 2, 3]]
    assert group(matrix, 4) == [[0], [1], [2], [3]]


@both
@pytest.mark.parametrize("num_groups", [0, 5])
def test_groups_out_of_range(group, num_groups):
    with pytest.raises(ValueError, match=f"num_groups={num_groups} for 4"):
        group(affinity(4, 0), num_groups)


@both
def test_without_scikit_learn(monkeypatch, group):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"keras-mimo\[grouping\]"):
        group(affinity(5, 0), 2)
