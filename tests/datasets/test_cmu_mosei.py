import os
import pickle

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.datasets import load_cmu_mosei
from tests.datasets.affect_files import COUNTS
from tests.datasets.affect_files import mmsa
from tests.datasets.affect_files import multibench
from tests.datasets.affect_files import write


@pytest.fixture
def data():
    return multibench(35, 74, 300, [-3, 1.2, 0, 3, -0.4])


@pytest.fixture
def path(tmp_path, data):
    return write(tmp_path / "mosei_raw.pkl", data)


def test_samples_are_those_of_the_file(path, data):
    parts = load_cmu_mosei(path, batch_size=100)
    for samples, name in zip(parts, COUNTS, strict=True):
        # One has no text.
        rows = np.delete(np.arange(COUNTS[name]), 1)
        samples.shuffle, samples.epoch = False, 0
        ((x, y),) = list(samples)
        assert {k: (v.shape, str(v.dtype)) for k, v in x.items()} == {
            "vision": ((len(rows), 50, 35), "float32"),
            "audio": ((len(rows), 50, 74), "float32"),
            "text": ((len(rows), 50, 300), "float32"),
        }
        np.testing.assert_array_equal(x["vision"], data[name]["vision"][rows])
        text = data[name]["text"][rows].astype("float32")
        np.testing.assert_array_equal(x["text"], text)
        audio = data[name]["audio"][rows]
        assert np.isneginf(audio).sum() == 1
        np.testing.assert_array_equal(
            x["audio"], np.where(np.isneginf(audio), 0, audio)
        )
        # Padding stays in front.
        assert not x["audio"][:, :10].any() and x["audio"][:, -1].any()
        assert y.dtype == "int32"
        expected = data[name]["labels"][rows].ravel() > 0
        np.testing.assert_array_equal(y, expected)


def test_training_samples_alone_are_shuffled_by_the_seed(path):
    def labels(part, **kwargs):
        samples = load_cmu_mosei(path, labels="regression", **kwargs)[part]
        return np.concatenate([y for _, y in samples]).tolist()

    assert labels(0) == labels(0) != labels(0, seed=1)
    assert labels(2) == labels(2, seed=1)
    assert len(load_cmu_mosei(path, batch_size=3)[0]) == 3


@pytest.mark.parametrize(
    ("options", "expected", "dtype"),
    [
        ({"cut": ">0"}, [0, 0, 1], "int32"),
        ({"cut": ">=0"}, [0, 1, 1], "int32"),
        ({"labels": "regression"}, [-3, 0, 3], "float32"),
    ],
)
def test_labels(path, options, expected, dtype):
    labels = load_cmu_mosei(path, **options)[2].labels
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == dtype


def test_what_can_be_read_by_other_processes(path):
    train, _, _ = load_cmu_mosei(path)
    again = pickle.loads(pickle.dumps(train.read))
    np.testing.assert_array_equal(again(3)["text"], train.read(3)["text"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_the_file_are_not_copied(path, data, protocol):
    train, _, _ = load_cmu_mosei(write(path, data, protocol))
    for array in train.read.arrays.values():
        assert not array.flags.owndata
    train.read(0)["audio"][:] = 7
    assert not (train.read(0)["audio"] == 7).any()


def encoder(shape):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(4, "relu"),
        ]
    )


@pytest.mark.slow
def test_a_model_trains_and_takes_an_absent_face_for_missing(path):
    train, validation, test = load_cmu_mosei(path, batch_size=4, workers=2)
    shapes = {"vision": (50, 35), "audio": (50, 74), "text": (50, 300)}
    model = keras_mimo.late_fusion(
        {name: encoder(shape) for name, shape in shapes.items()},
        num_classes=2,
        missing={"vision": 0, "audio": 0},
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, combiner="sum")
    history = model.fit(train, validation_data=validation, verbose=0).history
    assert np.isfinite([values for (*_, values) in history.values()]).all()
    x, _ = test[0]
    outputs = model.predict(x, verbose=0)
    # The second, as one before it was dropped.
    assert not outputs["vision"][1].any() and outputs["vision"][0].any()


def test_ids_and_sentences_of_mmsa(tmp_path):
    path = write(tmp_path / "unaligned_50.pkl", mmsa())
    x, _ = load_cmu_mosei(path, text="ids")[2][0]
    assert x["text"].dtype == "int32" and x["text"].shape == (4, 50)
    np.testing.assert_array_equal(x["text"][0, :5], [101, 7592, 2088, 102, 0])
    known = {"I": 1, "really": 2, "liked": 3, "it": 4}

    def tokenize(sentence):
        return [known[word] for word in sentence.split()]

    x, _ = load_cmu_mosei(path, tokenize=tokenize, length=3)[2][0]
    np.testing.assert_array_equal(
        x["text"], [[1, 0, 0], [1, 2, 0], [1, 2, 3], [1, 2, 3]]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("valid"), "with the dicts"),
        (lambda d: d.update(test=[]), "with the dicts"),
        (lambda d: d["train"].pop("audio"), r'"train".*entry \'audio\''),
        (lambda d: d["train"].pop("labels"), r"entry 'labels'"),
        (lambda d: d["test"].update(text=np.ones((4, 300))), r"\(4, steps"),
        (lambda d: d["test"].update(text=np.ones((3, 50, 300))), r"\(4, steps"),
        (lambda d: d["test"].update(text=["a"] * 4), "array of numbers"),
        (
            lambda d: d["test"].update(text=np.ones((4, 50, 200))),
            "same shape of 'text'",
        ),
        (
            lambda d: d["test"].update(labels=np.ones((4, 1, 7))),
            "one number for each sample",
        ),
        (lambda d: d["test"].update(labels=np.full((4, 1), 4)), "from -3 to 3"),
        (
            lambda d: d["test"].update(labels=np.full((4, 1), np.nan)),
            "from -3 to 3",
        ),
        (
            lambda d: d["train"]["vision"].__setitem__((3, 0, 0), np.nan),
            r"finite in 'vision'.*\[3\]",
        ),
        (
            lambda d: d["train"]["audio"].__setitem__((4, 0, 0), np.inf),
            r"finite in 'audio'.*\[4\]",
        ),
        (
            lambda d: d["train"]["vision"].__setitem__((5, 0, 0), -np.inf),
            r"finite in 'vision'.*\[5\]",
        ),
        (lambda d: d["valid"]["text"].fill(0), "a sample with text"),
    ],
)
def test_other_files_are_named(path, data, change, message):
    change(data)
    write(path, data)
    with pytest.raises(ValueError, match=message) as error:
        load_cmu_mosei(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": "five"}, ValueError, "`labels`.*'five'"),
        ({"cut": ">1"}, ValueError, "`cut`.*'>1'"),
        ({"text": "words"}, ValueError, "`text`.*'words'"),
        ({"text": "ids"}, ValueError, "entry 'text_bert'"),
        ({"tokenize": list}, ValueError, "entry 'raw_text'"),
        (
            {"tokenize": list, "text": "ids"},
            ValueError,
            "`text` can't be given",
        ),
        ({"length": 0}, ValueError, "`length`"),
        ({"batch_size": 1.5}, TypeError, "`batch_size`"),
    ],
)
def test_arguments_are_checked(path, options, error, message):
    with pytest.raises(error, match=message):
        load_cmu_mosei(path, **options)


@pytest.mark.parametrize(
    ("tokenize", "error"),
    [
        ("bert", TypeError),
        (str.split, ValueError),
        (lambda _: [[1]], ValueError),
        (lambda _: [[1], [1, 2]], ValueError),
        (lambda _: [-1], ValueError),
        (lambda _: [0.5], ValueError),
    ],
)
def test_what_makes_ids_is_checked(tmp_path, tokenize, error):
    path = write(tmp_path / "aligned_50.pkl", mmsa())
    with pytest.raises(error, match="`tokenize`"):
        load_cmu_mosei(path, tokenize=tokenize)


class Call:
    def __init__(self, function, *args):
        self.reduced = (function, args)

    def __reduce__(self):
        return self.reduced


def test_code_in_a_file_is_named_and_not_run(path, data, tmp_path):
    trace = tmp_path / "trace"
    data["train"]["id"] = Call(os.system, f"touch {trace}")
    with pytest.raises(pickle.UnpicklingError, match=r"it holds `\w+\.system`"):
        load_cmu_mosei(write(path, data))
    assert not trace.exists()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_cmu_mosei(tmp_path / "mosei_raw.pkl")
