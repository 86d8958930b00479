import keras
import numpy as np
import pytest

from keras_mimo.datasets import load_cifar10_lt
from keras_mimo.datasets import load_cifar100_lt
from keras_mimo.datasets import long_tail
from keras_mimo.datasets.long_tail import long_tail_sizes


def balanced_set(classes=4, count=100):
    """A set in which the sample is its own index."""
    y = np.tile(np.arange(classes, dtype="uint8"), count)
    return np.arange(len(y)), y


@pytest.mark.parametrize(
    ("classes", "factor", "total", "largest", "smallest"),
    [
        (10, 0.01, 12406, 5000, 50),
        (10, 0.02, 13996, 5000, 100),
        (10, 0.1, 20431, 5000, 500),
        (100, 0.01, 10847, 500, 5),
        (100, 0.1, 19573, 500, 50),
    ],
)
def test_published_sizes_of_cifar(classes, factor, total, largest, smallest):
    sizes = long_tail_sizes(classes, factor, 50000 // classes)
    assert (sum(sizes), sizes[0], sizes[-1]) == (total, largest, smallest)
    assert sizes == sorted(sizes, reverse=True)


def test_published_shots_of_cifar100():
    sizes = np.array(long_tail_sizes(100, 0.01, 500))
    assert (sizes > 100).sum() == 35
    assert (sizes < 20).sum() == 30


def test_step():
    assert long_tail_sizes(5, 0.1, 55, "step") == [55, 55, 5, 5, 5]


@pytest.mark.parametrize("column", [False, True])
def test_subset(column):
    x, y = balanced_set()
    labels = y[:, None] if column else y
    kept, kept_y = long_tail(x, labels, 0.1)
    assert kept_y.shape == ((len(kept), 1) if column else (len(kept),))
    assert kept_y.dtype == "uint8"
    np.testing.assert_array_equal(kept_y, labels[kept])
    assert np.bincount(kept_y.ravel()).tolist() == [100, 46, 21, 10]
    # Each once, and as they were.
    assert (np.diff(kept) > 0).all()


def test_images_are_those_of_the_papers_code():
    x, y = balanced_set()
    kept, _ = long_tail(x, y, 0.1, seed=3)
    # What that code does: one global generator, class after class.
    np.random.seed(3)
    expected = []
    for label, size in enumerate([100, 46, 21, 10]):
        indices = np.where(y == label)[0]
        np.random.shuffle(indices)
        expected.extend(indices[:size])
    np.testing.assert_array_equal(kept, np.sort(expected))


def test_seed():
    x, y = balanced_set()
    first, again, other = (long_tail(x, y, 0.1, seed=s)[0] for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_class_order_and_largest_count():
    x, y = balanced_set()
    _, kept = long_tail(x, y, 0.1, class_order=[2, 0, 3, 1], max_count=50)
    assert np.bincount(kept).tolist() == [23, 5, 50, 10]


def test_largest_count_is_that_of_the_smallest_class():
    y = np.repeat([3, 7], [40, 10])
    _, kept = long_tail(np.zeros(50), y, 0.5)
    assert np.bincount(kept)[[3, 7]].tolist() == [10, 5]


def test_several_modalities():
    x, y = balanced_set()
    kept, _ = long_tail({"a": x, "b": -x}, y, 0.1)
    np.testing.assert_array_equal(kept["a"], -kept["b"])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"imbalance_factor": 0}, ValueError, "imbalance_factor=0"),
        ({"imbalance_factor": 100}, ValueError, "did you mean 1 / 100"),
        ({"imbalance_factor": "x"}, TypeError, "imbalance_factor='x'"),
        ({"kind": "linear"}, ValueError, "kind='linear'"),
        ({"class_order": [0, 1]}, ValueError, r"class_order=\[0, 1\]"),
        ({"class_order": [0, 1, 2, 2]}, ValueError, "class_order"),
        ({"max_count": 0}, ValueError, "max_count=0"),
        ({"max_count": 101}, ValueError, "Class 0 has 100 samples"),
        ({"max_count": 9.5}, TypeError, "float"),
        ({"x": np.zeros(3)}, ValueError, r"\[3\] in x, 400 in y"),
        ({"y": np.zeros((400, 2), int)}, ValueError, r"shape \(400, 2\)"),
        ({"y": np.zeros(400)}, ValueError, "dtype float64"),
        ({"y": np.zeros(400, int)}, ValueError, "two classes"),
    ],
)
def test_bad_arguments(options, error, match):
    x, y = balanced_set()
    with pytest.raises(error, match=match):
        long_tail(**{"x": x, "y": y, "imbalance_factor": 0.1, **options})


@pytest.mark.parametrize(
    ("load", "module", "classes"),
    [
        (load_cifar10_lt, keras.datasets.cifar10, 10),
        (load_cifar100_lt, keras.datasets.cifar100, 100),
    ],
)
def test_cifar(monkeypatch, load, module, classes):
    x, y = balanced_set(classes, count=20)
    test = np.zeros((7, 32, 32, 3), "uint8"), np.zeros((7, 1), "uint8")
    train = np.broadcast_to(x[:, None, None, None], (len(x), 32, 32, 3))
    monkeypatch.setattr(
        module, "load_data", lambda: ((train, y[:, None]), test)
    )
    (images, labels), unchanged = load(0.1, class_order=range(classes)[::-1])
    assert unchanged is test
    assert images.shape == (len(labels), 32, 32, 3)
    np.testing.assert_array_equal(y[images[:, 0, 0, 0]], labels[:, 0])
    counts = np.bincount(labels[:, 0])
    assert counts.tolist() == long_tail_sizes(classes, 0.1, 20)[::-1]
    again = load(0.1, "step", seed=5)[0][1]
    assert len(again) == sum(long_tail_sizes(classes, 0.1, 20, "step"))
