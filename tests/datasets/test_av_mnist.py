import pickle

import numpy as np
import pytest

from keras_mimo.datasets import load_av_mnist

COUNTS = {"train": 55003, "test": 2}


def write(path, array_or_shape, dtype="uint8"):
    """A file; of a shape only, one with holes that takes no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(array_or_shape, tuple):
        return np.lib.format.open_memmap(path, "w+", dtype, array_or_shape)
    np.save(path, array_or_shape)
    return None


@pytest.fixture
def folder(tmp_path):
    for part, count in COUNTS.items():
        image = write(tmp_path / f"image/{part}_data.npy", (count, 784))
        image[-1] = np.arange(784) % 256
        audio = write(tmp_path / f"audio/{part}_data.npy", (count, 112, 112))
        audio[-1, 3, 4] = 255
        labels = np.arange(count) % 10
        write(tmp_path / f"{part}_labels.npy", labels.astype("float64"))
    return tmp_path


def test_parts(folder):
    train, validation, test = load_av_mnist(folder, batch_size=2)
    assert [len(p.labels) for p in (train, validation, test)] == [55000, 3, 2]
    assert train.shuffle and not validation.shuffle
    # The last row of the training file.
    x, y = validation[1]
    assert y.dtype == np.int32 and list(y) == [55002 % 10]
    assert x["image"].shape == (1, 28, 28, 1)
    assert x["audio"].shape == (1, 112, 112, 1)
    assert x["image"].dtype == x["audio"].dtype == np.float32
    np.testing.assert_allclose(
        x["image"][0, 1, :, 0], np.arange(28, 56) / 255, rtol=1e-6
    )
    assert x["audio"][0, 3, 4, 0] == 1 and x["audio"].sum() == 1
    assert train[0][0]["image"].sum() == 0


def test_processes_are_given_names_of_files_only(folder):
    _, validation, _ = load_av_mnist(folder)
    pickled = pickle.dumps(validation.read)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(
        again(2)["image"], validation.read(2)["image"]
    )


@pytest.mark.parametrize(
    "file, content, match",
    [
        ("image/test_data.npy", np.zeros((2, 28, 28)), r"\(2, 784\)"),
        ("audio/test_data.npy", np.zeros((3, 112, 112)), r"\(2, 112, 112\)"),
        ("image/test_data.npy", np.full((2, 784), "a"), "must have numbers"),
        ("image/test_data.npy", np.array([{}, {}]), "npy file of numbers"),
        ("test_labels.npy", np.array([1, 10]), "must have digits"),
        ("test_labels.npy", np.array([1.5, 2]), "must have digits"),
        ("test_labels.npy", np.array([[1], [2]]), "must have digits"),
        ("test_labels.npy", np.array([], int), "must have digits"),
        ("train_labels.npy", np.zeros(9), r"train_data\.npy` must have"),
    ],
)
def test_arrays_of_another_form_are_named(folder, file, content, match):
    write(folder / file, content)
    with pytest.raises(ValueError, match=match):
        load_av_mnist(folder)


def test_files_that_are_damaged_are_named(folder):
    path = folder / "audio/train_data.npy"
    with path.open("rb") as file:
        head = file.read(200)
    for content in (b"", b"text", head):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"train_data\.npy` must be a"):
            load_av_mnist(folder)


def test_too_few_rows_to_validate_with(folder):
    write(folder / "train_labels.npy", np.zeros(55000))
    write(folder / "image/train_data.npy", (55000, 784))
    write(folder / "audio/train_data.npy", (55000, 112, 112))
    with pytest.raises(ValueError, match="more than 55000"):
        load_av_mnist(folder)


@pytest.mark.parametrize("file", ["image/test_data.npy", "train_labels.npy"])
def test_what_is_missing_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"no `.*/{file}`"):
        load_av_mnist(folder)
