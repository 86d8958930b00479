import concurrent.futures
import json
import pickle
import shutil
import sys
import warnings

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import keras_mimo
from keras_mimo.datasets import MM_IMDB_GENRES
from keras_mimo.datasets import load_mm_imdb
from keras_mimo.datasets import mm_imdb_raw
from tests.datasets.mm_imdb_files import ROWS
from tests.datasets.mm_imdb_files import Folder
from tests.datasets.mm_imdb_files import pixels
from tests.datasets.mm_imdb_files import write_hdf5

VOCABULARY = {"a": 1, "the": 2, "plot": 3, "longest": 4, "no": 5, "cover": 6}


def tokenize(plot):
    return [VOCABULARY[word] for word in plot.split()]


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory):
    path = tmp_path_factory.mktemp("mm_imdb") / "multimodal_imdb.hdf5"
    return path, write_hdf5(path)


@pytest.fixture
def changed(hdf5, tmp_path):
    path = shutil.copy(hdf5[0], tmp_path)
    with h5py.File(path, "a") as file:
        yield path, file


@pytest.fixture
def folder(tmp_path):
    return Folder().write(tmp_path)


def load_raw(folder, **options):
    options = {"tokenize": tokenize, "length": 4, **options}
    with warnings.catch_warnings():
        # Of films that are left out.
        warnings.simplefilter("ignore")
        return load_mm_imdb(folder, **options)


def test_parts_and_labels_of_the_file(hdf5):
    path, genres = hdf5
    parts = load_mm_imdb(path)
    assert [len(part.labels) for part in parts] == [15552, 2608, 7799]
    assert [part.shuffle for part in parts] == [True, False, False]
    labels = np.concatenate([part.labels for part in parts])
    assert labels.dtype == "float32"
    # In the order of the names, not of the file.
    np.testing.assert_array_equal(labels, genres)


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_the_file(hdf5, row):
    train, validation, test = load_mm_imdb(str(hdf5[0]))
    if row < 15552:
        sample = train.read(row)
    elif row < 18160:
        sample = validation.read(row - 15552)
    else:
        sample = test.read(row - 18160)
    assert sample["image"].dtype == sample["text"].dtype == "float32"
    # The file has whole numbers.
    np.testing.assert_allclose(
        sample["image"], pixels(row) / 255, atol=1.01 / 255
    )
    expected = np.full(300, np.nan if row == 1 else row)
    np.testing.assert_array_equal(sample["text"], expected)


def test_features_and_sequences_of_the_file(hdf5):
    _, validation, _ = load_mm_imdb(
        hdf5[0], image="vgg_features", text="sequences", length=4
    )
    x, _ = validation[0]
    assert x["image"].shape == (32, 4096) and x["image"].dtype == "float32"
    assert x["text"].shape == (32, 4) and x["text"].dtype == "int32"
    assert x["image"][0, 0] == 15552
    # 15552 % 7 is 5, 18159 % 7 is 1: 0 is filled in, no word.
    np.testing.assert_array_equal(x["text"][0], [1, 2, 3, 4])
    np.testing.assert_array_equal(
        validation.read(18159 - 15552)["text"], [1, 0, 0, 0]
    )


def test_the_file_is_opened_anew_by_what_is_sent_to_a_process(hdf5):
    read = load_mm_imdb(hdf5[0], image="vgg_features")[2].read
    again = pickle.loads(pickle.dumps(read))
    assert again.rows._file is None
    assert again(0)["text"][0] == read(0)["text"][0] == 18160
    # As after a fork.
    read.rows._process = -1
    inherited = read.rows._file
    assert read(0)["text"][0] == 18160
    assert read.rows._file is not inherited


def test_threads_read_the_same(hdf5):
    read = load_mm_imdb(hdf5[0], image="vgg_features")[0].read
    rows = [0, 1, 15551] * 20
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda row: read(row)["image"][0], rows)
    assert list(found) == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("images"), "'images' of shape.*none"),
        (lambda f: f.pop("genres"), "'genres' of shape.*none"),
        (
            lambda f: (f.pop("features"), f.create_group("features")),
            "'features'.*none",
        ),
        (
            lambda f: (f.pop("features"), f.create_dataset("features", (9, 3))),
            r"'features'.*\(9, 3\)",
        ),
        (lambda f: f["genres"].attrs.pop("target_names"), "`target_names`"),
        (
            lambda f: f["genres"].attrs.update(target_names="Drama"),
            "`target_names`",
        ),
        (
            lambda f: f["genres"].attrs.update(
                target_names=json.dumps(["News", *MM_IMDB_GENRES[1:]])
            ),
            "`target_names`.*Drama",
        ),
        (lambda f: f["genres"].__setitem__((0, 0), 2), "0 and 1 in 'genres'"),
    ],
)
def test_other_files_are_named(changed, change, message):
    path, file = changed
    change(file)
    file.close()
    with pytest.raises(ValueError, match=message) as error:
        load_mm_imdb(path)
    assert str(path) in str(error.value)


def test_pixels_of_another_form_are_named(changed):
    path, file = changed
    file["images"][3] = 200
    file.close()
    read = load_mm_imdb(path)[0].read
    with pytest.raises(ValueError, match=r"less the means.*row 3") as error:
        read(3)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_hdf5(tmp_path):
    path = tmp_path / "multimodal_imdb.hdf5"
    with pytest.raises(FileNotFoundError, match=r"There is no .*hdf5"):
        load_mm_imdb(path)
    path.write_text("<html>")
    with pytest.raises(ValueError, match=r"hdf5` must be an hdf5 file"):
        load_mm_imdb(path)


def test_films_without_plot_cover_or_genre_are_dropped(folder):
    with pytest.warns(UserWarning, match=r'Of 8 .*"train".* 6 are left out'):
        train, validation, test = load_mm_imdb(
            folder, tokenize=tokenize, length=4
        )
    train.epoch, train.shuffle = 0, False
    assert [len(part.labels) for part in (train, validation, test)] == [2, 1, 1]
    named = [
        [MM_IMDB_GENRES[k] for k in np.flatnonzero(row)] for row in train.labels
    ]
    assert named == [["Drama", "War"], ["Comedy"]]
    assert train.labels.dtype == "float32"
    assert train.labels.shape == (2, 23)
    texts = [train.read(k)["text"].tolist() for k in range(2)]
    # The longest plot.
    assert texts == [[2, 4, 3, 0], [1, 3, 0, 0]]


def test_films_without_plot_or_cover_are_marked(folder):
    train, _, _ = load_raw(folder, incomplete="mark", seed=2)
    samples = [train.read(k) for k in range(len(train.labels))]
    absent = [
        (bool(np.isnan(x["image"]).all()), not x["text"].any()) for x in samples
    ]
    # The sixth film has neither, the third and the seventh no genre.
    assert absent == [
        (False, False),
        (False, False),
        (False, True),
        (True, False),
        (False, True),
    ]
    assert {x["image"].shape for x in samples} == {(256, 160, 3)}
    assert {str(x["image"].dtype) for x in samples} == {"float32"}


def test_covers_are_cut_to_the_shape_and_in_colour(folder):
    train, validation, _ = load_raw(folder, image_size=(32, 20))
    colour = train.read(0)["image"]
    assert colour.shape == (32, 20, 3)
    # JPEG loses a little.
    np.testing.assert_allclose(
        colour, np.tile(np.array([0, 200, 30]) / 255, (32, 20, 1)), atol=0.02
    )
    grey = train.read(1)["image"]
    np.testing.assert_allclose(grey, np.full((32, 20, 3), 77 / 255), atol=0.02)
    assert validation.read(0)["image"].shape == (32, 20, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.split.pop("dev"), ValueError, 'split.json`.*"dev"'),
        (lambda f: f.split.update(dev="1"), ValueError, "split.json"),
        (lambda f: f.split.update(dev=["../1"]), ValueError, "split.json"),
        (
            lambda f: f.split["dev"].append("0000011"),
            FileNotFoundError,
            "0000011.json",
        ),
        (
            lambda f: f.films["0000002"].update(plot="a plot"),
            ValueError,
            "0000002.json.*strings",
        ),
        (
            lambda f: f.films.update({"0000002": []}),
            ValueError,
            "0000002.json.*object",
        ),
        (
            lambda f: f.covers.pop("0000009"),
            ValueError,
            'a film with.*"dev".*1 films',
        ),
    ],
)
def test_other_folders_are_named(tmp_path, change, error, message):
    folder = Folder()
    change(folder)
    with pytest.raises(error, match=message) as raised:
        load_raw(folder.write(tmp_path))
    assert str(tmp_path) in str(raised.value)


def test_damaged_files_of_the_folder_are_named(folder):
    (cover,) = folder.glob("dataset/0000010.jpeg")
    whole = cover.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>"):
        cover.write_bytes(content)
        _, _, test = load_raw(folder)
        with pytest.raises(ValueError, match=r"0000010\.jpeg` must be a JPEG"):
            test.read(0)
    (folder / "dataset" / "0000010.json").write_text("{")
    with pytest.raises(ValueError, match=r"0000010\.json` is no JSON file"):
        load_raw(folder)
    shutil.rmtree(folder / "dataset")
    with pytest.raises(FileNotFoundError, match="dataset"):
        load_raw(folder)
    (folder / "split.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"split\.json"):
        load_raw(folder)


def test_covers_are_decoded_once(folder, tmp_path, monkeypatch):
    options = {"image_size": (32, 20), "cache": tmp_path / "decoded"}
    read = load_raw(folder, **options)[0].read
    first = [read(index)["image"] for index in (0, 1)]
    monkeypatch.setattr(mm_imdb_raw, "open_picture", None)
    read = load_raw(folder, **options)[0].read
    for index in (0, 1):
        np.testing.assert_array_equal(read(index)["image"], first[index])
    # Of another size.
    with pytest.raises(TypeError):
        load_raw(folder, cache=options["cache"])[0].read(0)


def test_both_forms_have_the_same_cover(hdf5, folder):
    """But for what JPEG loses, and for whole numbers in the hdf5 file."""
    cover = folder / "dataset" / "0000010.jpeg"
    image = Image.fromarray(pixels(18160).astype("uint8"))
    image.save(cover, quality=100, subsampling=0)
    raw = load_raw(folder)[2].read(0)["image"]
    prepared = load_mm_imdb(hdf5[0])[2].read(0)["image"]
    np.testing.assert_allclose(raw, prepared, atol=5 / 255)


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[images\]"):
        load_raw(folder)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"image": "covers"}, ValueError),
        ({"text": "plots"}, ValueError),
        ({"tokenize": tokenize}, ValueError),
        ({"image_size": (32, 20)}, ValueError),
        ({"cache": "decoded"}, ValueError),
        ({"incomplete": "keep"}, ValueError),
        ({"length": 0}, ValueError),
        ({"batch_size": 0.5}, TypeError),
    ],
)
def test_arguments_for_the_file_are_checked(hdf5, options, error):
    (name,) = options
    with pytest.raises(error, match=f"`{name}`"):
        load_mm_imdb(hdf5[0], **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"tokenize": None}, ValueError),
        ({"tokenize": "bert"}, TypeError),
        ({"image": "vgg_features"}, ValueError),
        ({"text": "sequences"}, ValueError),
        ({"image_size": (32, 0)}, ValueError),
    ],
)
def test_arguments_for_the_folder_are_checked(folder, options, error):
    (name,) = options
    with pytest.raises(error, match=f"`{name}`"):
        load_raw(folder, **options)


@pytest.mark.slow
def test_a_model_trains_and_takes_what_is_marked_for_missing(folder):
    train, validation, test = load_raw(
        folder, incomplete="mark", image_size=(8, 5), batch_size=2
    )
    image = keras.Sequential(
        [keras.Input((8, 5, 3)), keras.layers.GlobalAveragePooling2D()]
    )
    text = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(7, 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model = keras_mimo.late_fusion(
        {"image": image, "text": text},
        num_classes=23,
        missing={"image": None, "text": 0},
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", loss, combiner="sum")
    history = model.fit(train, validation_data=validation, verbose=0).history
    assert np.isfinite([values for (*_, values) in history.values()]).all()
    outputs = model.predict(test, verbose=0)
    assert all(np.isfinite(output).all() for output in outputs.values())
