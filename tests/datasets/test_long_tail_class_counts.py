import importlib.util

import keras
import numpy as np
import pytest

from keras_mimo.datasets import class_counts

Y = np.array([0, 2, 2, 1, 2, 0, 2])
COUNTS = [2, 1, 4]
X = np.zeros((7, 3), "float32")

needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="PyTorch is not installed"
)
needs_tensorflow = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"),
    reason="TensorFlow is not installed",
)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    # Without an end of its own, as Keras allows.
    def __getitem__(self, index):
        part = slice(3 * index, 3 * index + 3)
        return X[part], Y[part], np.ones(len(Y[part]))


@pytest.mark.parametrize(
    "labels",
    [
        Y,
        Y.tolist(),
        Y[:, None],
        Y.astype("uint8"),
        Y.astype("float32"),
        np.eye(3)[Y],
        np.eye(3)[Y].tolist(),
        (X, Y),
        (X, Y, np.ones(7)),
        [(X[:4], Y[:4]), (X[4:], Y[4:])],
        [[X[:4], np.eye(3)[Y[:4]]], [X[4:], np.eye(3)[Y[4:]]]],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_arrays_and_batches(labels):
    counts = class_counts(labels)
    assert counts.dtype == "int64"
    assert counts.tolist() == COUNTS


def test_backend_tensor():
    assert class_counts(keras.ops.convert_to_tensor(Y)).tolist() == COUNTS


def test_generator_whose_classes_come_late():
    batches = ((X[i : i + 2], Y[i : i + 2]) for i in range(0, 7, 2))
    assert class_counts(batches).tolist() == COUNTS


def test_py_dataset():
    assert class_counts(Batches()).tolist() == COUNTS


@needs_tensorflow
@pytest.mark.parametrize("batched", [True, False])
def test_tf_data(batched):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    if batched:
        dataset = dataset.batch(3)
    assert class_counts(dataset).tolist() == COUNTS
    with pytest.raises(ValueError, match="must be finite"):
        class_counts(dataset.repeat())


@needs_torch
def test_data_loader():
    import torch

    dataset = torch.utils.data.TensorDataset(
        torch.from_numpy(X), torch.from_numpy(Y)
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=3)
    assert class_counts(loader).tolist() == COUNTS


def test_number_of_classes():
    assert class_counts(Y, 5).tolist() == [*COUNTS, 0, 0]
    assert class_counts(np.eye(4)[Y]).tolist() == [*COUNTS, 0]
    for labels in (Y, np.eye(3)[Y]):
        with pytest.raises(ValueError, match="num_classes=2"):
            class_counts(labels, 2)


class Endless(Batches):
    def __len__(self):
        return None

    @property
    def num_batches(self):
        return None


@pytest.mark.parametrize(
    ("dataset", "error", "match"),
    [
        ([0, -1], ValueError, "labels from -1"),
        ([0.5], TypeError, r"\[0.5\]"),
        (["cat"], TypeError, "cat"),
        ([], ValueError, "has no labels"),
        (iter(()), ValueError, "has no labels"),
        (np.zeros((2, 2, 2)), ValueError, r"shape=\(2, 2, 2\)"),
        (3, TypeError, "dataset=3"),
        (iter([X]), ValueError, "a batch of type"),
        ((X, {"a": Y, "b": Y}), TypeError, r"\['a', 'b'\]"),
        (Endless(), ValueError, "must be finite"),
    ],
)
def test_bad_datasets(dataset, error, match):
    with pytest.raises(error, match=match):
        class_counts(dataset)
