import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_mimo.datasets import WATCH_CLASSES
from keras_mimo.datasets import load_watch
from keras_mimo.datasets.safe_numpy import load_object_array


@pytest.fixture(scope="module")
def file():
    spec = importlib.util.find_spec("seglearn")
    folder = Path(spec.submodule_search_locations[0])
    return load_object_array(folder / "data" / "watch_dataset.npy").item()


@pytest.fixture(scope="module")
def raw():
    return load_watch(standardize=False)


@pytest.fixture(scope="module")
def standardized():
    return load_watch()


def test_shapes_and_dtypes(standardized):
    (x_train, y_train), (x_test, y_test) = standardized
    for x, y, count in ((x_train, y_train, 2778), (x_test, y_test, 1899)):
        assert list(x) == ["accel", "gyro"]
        for modality in x.values():
            assert modality.shape == (count, 100, 3)
            assert modality.dtype == np.float32
            assert modality.flags.c_contiguous
            assert np.isfinite(modality).all()
        assert y.shape == (count,)
        assert y.dtype == np.int32


def test_class_counts(standardized):
    (_, y_train), (_, y_test) = standardized
    train = np.bincount(y_train).tolist()
    test = np.bincount(y_test).tolist()
    assert train == [306, 452, 454, 430, 421, 359, 356]
    assert test == [196, 318, 326, 288, 302, 224, 245]
    total = np.add(train, test).tolist()
    assert total == [502, 770, 780, 718, 723, 583, 601]
    assert sum(total) == 4677


def test_names_are_those_of_the_file(file):
    assert list(WATCH_CLASSES) == file["y_labels"]
    assert file["X_labels"] == ["ax", "ay", "az", "wx", "wy", "wz"]


def test_windows_are_slices_of_the_recordings_of_their_subjects(file, raw):
    assert len(file["X"]) == 140
    for (x, y), subjects in zip(
        raw, ((2, 3, 5, 6, 8, 9), (1, 4, 7, 10)), strict=True
    ):
        position = 0
        for recording, label, subject in zip(
            file["X"], file["y"], file["subject"], strict=True
        ):
            if subject not in subjects:
                continue
            for start in range(0, len(recording) - 99, 50):
                window = recording[start : start + 100].astype("float32")
                np.testing.assert_array_equal(
                    x["accel"][position], window[:, :3]
                )
                np.testing.assert_array_equal(
                    x["gyro"][position], window[:, 3:]
                )
                assert y[position] == label
                position += 1
        assert position == len(y)


def test_no_window_is_in_both_sets(raw):
    train, test = (
        {hashlib.sha1(w.tobytes()).digest() for w in x["accel"]} for x, _ in raw
    )
    assert len(train) == 2778
    assert len(test) == 1899
    assert train.isdisjoint(test)


def test_a_single_test_subject_and_its_complement():
    (_, y_train), (_, y_test) = load_watch(test_subjects=[3])
    assert (len(y_train), len(y_test)) == (4372, 305)
    others = np.array([1, 2, 4, 5, 6, 7, 8, 9, 10])
    (_, y_train), (_, y_test) = load_watch(test_subjects=others)
    assert (len(y_train), len(y_test)) == (305, 4372)


def test_order_of_test_subjects_does_not_matter(raw):
    again = load_watch(test_subjects=(10, 1, 7, 4), standardize=False)
    for (x, y), (expected_x, expected_y) in zip(again, raw, strict=True):
        np.testing.assert_array_equal(x["gyro"], expected_x["gyro"])
        np.testing.assert_array_equal(y, expected_y)


@pytest.mark.parametrize("modality", ["accel", "gyro"])
def test_standardized_with_training_statistics(raw, standardized, modality):
    (train, _), (test, _) = standardized
    np.testing.assert_allclose(
        train[modality].mean((0, 1), "float64"), 0, atol=1e-6
    )
    np.testing.assert_allclose(
        train[modality].std((0, 1), "float64"), 1, atol=1e-6
    )

    raw_train = raw[0][0][modality].astype("float64")
    raw_test = raw[1][0][modality].astype("float64")
    expected = (raw_test - raw_train.mean((0, 1))) / raw_train.std((0, 1))
    np.testing.assert_allclose(test[modality], expected, atol=1e-5)


def test_calls_do_not_share_memory(raw):
    first = raw[0][0]["accel"][0].copy()
    load_watch(standardize=False)[0][0]["accel"][0] = 0
    again = load_watch(standardize=False)[0][0]["accel"][0]
    np.testing.assert_array_equal(again, first)


def test_seglearn_is_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "seglearn", raising=False)
    load_watch()
    assert "seglearn" not in sys.modules


def test_absent_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "seglearn", None)
    with pytest.raises(ImportError, match="pip install seglearn"):
        load_watch()


def test_package_without_the_file(monkeypatch, tmp_path):
    (tmp_path / "seglearn").mkdir()
    (tmp_path / "seglearn" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "seglearn", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="pip install seglearn"):
        load_watch()


@pytest.mark.parametrize(
    ("subjects", "reason"),
    [
        ((), "it is empty"),
        ((1, 1), "a subject is repeated"),
        ((1, 0, 11), r"there is no subject \[0, 11\]"),
        (range(1, 11), "none is left"),
        (3, "test_subjects=3"),
        (("1",), r"test_subjects=\('1',\)"),
        ((1.5,), r"test_subjects=\(1.5,\)"),
        (None, "test_subjects=None"),
    ],
)
def test_bad_subjects(subjects, reason):
    with pytest.raises(ValueError, match="Expected `test_subjects`") as error:
        load_watch(test_subjects=subjects)
    assert error.match(reason)
    assert error.match(r"\[1, 2, 3, 4, 5, 6, 7, 8, 9, 10\]")
