import numpy as np
import pytest

from keras_mimo.datasets.stratified import split_off

COUNTS = [1, 2, 4, 5, 10, 100]


@pytest.fixture(scope="module")
def labels():
    y = np.repeat(np.arange(len(COUNTS)), COUNTS)
    return np.random.default_rng(0).permutation(y)


@pytest.mark.parametrize(
    "fraction, counts",
    [
        (0.3, [0, 1, 1, 2, 3, 30]),
        (0.2, [0, 0, 1, 1, 2, 20]),
        # One of each class stays.
        (0.99, [0, 1, 3, 4, 9, 99]),
    ],
)
def test_each_class_gives_its_share(labels, fraction, counts):
    rows = np.arange(len(labels))
    (rest, y_rest), (part, y_part) = split_off(rows, labels, fraction, seed=0)
    assert np.bincount(y_part, minlength=6).tolist() == counts
    assert (
        np.bincount(y_rest, minlength=6).tolist()
        == np.subtract(COUNTS, counts).tolist()
    )
    assert sorted([*rest, *part]) == rows.tolist()
    np.testing.assert_array_equal(labels[rest], y_rest)
    np.testing.assert_array_equal(labels[part], y_part)


def test_all_modalities_are_split_alike_and_dtypes_stay(labels):
    rows = np.arange(len(labels))
    x = {"a": np.stack([rows, rows], 1).astype("float32"), "b": rows}
    for part, y in split_off(x, labels.astype("int32"), 0.3, seed=0):
        np.testing.assert_array_equal(part["a"][:, 1], part["b"])
        assert part["a"].dtype == np.float32
        assert y.dtype == np.int32


def test_the_seed_decides_samples_and_order(labels):
    def rows(seed):
        whole = np.arange(len(labels))
        (rest, _), (part, _) = split_off(whole, labels, 0.3, seed)
        return rest.tolist(), part.tolist()

    assert rows(0) == rows(0)
    assert set(rows(0)[1]) != set(rows(1)[1])
    # In order of class, the end of an array would be another population.
    assert rows(0)[0] != sorted(rows(0)[0])
    (_, y_rest), _ = split_off(labels, labels, 0.3, 0)
    assert (np.diff(y_rest) < 0).any()
