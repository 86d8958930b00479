import gzip

import keras
import numpy as np
import pytest

from keras_mimo.datasets import fashion_mnist
from keras_mimo.datasets import load_fashion_mnist_lt
from keras_mimo.datasets.idx import load_idx
from tests.fashion_mnist import idx
from tests.fashion_mnist import write

TRAIN = np.random.default_rng(0).integers(256, size=(200, 28, 28), dtype="u1")
Y_TRAIN = np.tile(np.arange(10, dtype="uint8"), 20)
TEST = TRAIN[:30][::-1]
Y_TEST = Y_TRAIN[:30][::-1]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, ((TRAIN, Y_TRAIN), (TEST, Y_TEST)))


def check(train, test):
    x, y = train
    assert np.bincount(y).tolist() == [20, 15, 11, 9, 7, 5, 4, 3, 2, 2]
    assert x.dtype == y.dtype == "uint8" and x.shape == (78, 28, 28)
    labels = {
        image.tobytes(): label
        for image, label in zip(TRAIN, Y_TRAIN, strict=True)
    }
    assert [labels[image.tobytes()] for image in x] == y.tolist()
    np.testing.assert_array_equal(test[0], TEST)
    np.testing.assert_array_equal(test[1], Y_TEST)


def test_given_folder(folder):
    check(*load_fashion_mnist_lt(0.1, path=folder))


def test_debian_package(monkeypatch, folder):
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", folder)
    check(*load_fashion_mnist_lt(0.1))


def test_download_where_there_is_no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "none")
    monkeypatch.setattr(
        keras.datasets.fashion_mnist,
        "load_data",
        lambda: ((TRAIN, Y_TRAIN), (TEST, Y_TEST)),
    )
    check(*load_fashion_mnist_lt(0.1))


def test_arguments_reach_the_rule(folder):
    (_, y), _ = load_fashion_mnist_lt(
        0.1, "step", range(9, -1, -1), max_count=10, path=folder
    )
    assert np.bincount(y).tolist() == [1] * 5 + [10] * 5


def test_failed_download(monkeypatch, tmp_path):
    def fail():
        raise Exception("no network")

    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "none")
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)
    with pytest.raises(RuntimeError, match="`dataset-fashion-mnist`, or give"):
        load_fashion_mnist_lt()


def test_missing_file(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks \['t10k-labels-idx1"):
        load_fashion_mnist_lt(path=folder)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"plain", "no gzip file"),
        (gzip.compress(idx(TEST), mtime=0)[:-9], "damaged"),
        (gzip.compress(b"\x00\x00\x0d\x01", mtime=0), "no IDX file"),
        (gzip.compress(b"", mtime=0), "no IDX file"),
        (gzip.compress(idx(TEST)[:-1], mtime=0), "not complete"),
        (gzip.compress(idx(TEST)[:9], mtime=0), "not complete"),
    ],
)
def test_damaged_file(tmp_path, content, match):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        load_idx(path)


def test_idx_of_any_shape(tmp_path):
    path = tmp_path / "x.gz"
    for array in (TRAIN, Y_TRAIN, np.zeros((0, 3), "uint8")):
        path.write_bytes(gzip.compress(idx(array)))
        np.testing.assert_array_equal(load_idx(path), array)
