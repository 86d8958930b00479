import numpy as np
import pytest

from keras_mimo.grouping.labels import class_ids


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 2, 1]),
        np.array([[0], [2], [1]], dtype="uint8"),
        np.array([0.0, 2.0, 1.0], dtype="float32"),
        np.eye(3)[[0, 2, 1]],
        np.eye(3, dtype=bool)[[0, 2, 1]],
        0.8 * np.eye(3)[[0, 2, 1]] + 0.1,
    ],
)
def test_forms_of_labels(y):
    ids = class_ids(y, 3)
    assert ids.dtype == "int32"
    np.testing.assert_array_equal(ids, [0, 2, 1])


def test_one_class():
    np.testing.assert_array_equal(class_ids(np.array([[0], [0]]), 1), [0, 0])


@pytest.mark.parametrize(
    ("y", "named"),
    [
        ([0, 3, 7, 3], r"\[3, 7\]"),
        ([0, -1], r"\[-1\]"),
        ([0.5, 1.0], r"\[0.5\]"),
        ([np.nan, 1.0], r"\[nan\]"),
    ],
)
def test_labels_out_of_range_are_named(y, named):
    with pytest.raises(ValueError, match=f"Received: {named}"):
        class_ids(np.array(y), 3)


@pytest.mark.parametrize("shape", [(), (2, 2), (2, 4), (2, 3, 3)])
def test_labels_of_another_shape(shape):
    with pytest.raises(ValueError, match="labels of shape"):
        class_ids(np.zeros(shape), 3)


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 1, 0], [np.nan, 1, 0]])
def test_rows_without_a_largest_entry(row):
    with pytest.raises(ValueError, match="one largest entry"):
        class_ids(np.array([[1.0, 0, 0], row]), 3)
