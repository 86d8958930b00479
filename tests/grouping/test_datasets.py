import keras
import numpy as np
import pytest
from keras import layers

from keras_mimo.grouping import class_gramian

NUM_CLASSES = 3
BATCH_SIZE = 8


def data(count=20):
    rng = np.random.default_rng(0)
    x = {
        "a": rng.normal(size=(count, 4)).astype("float32"),
        "b": rng.normal(size=(count, 2)).astype("float32"),
    }
    return x, rng.integers(NUM_CLASSES, size=count)


def model():
    keras.utils.set_random_seed(0)
    inputs = {
        "a": keras.Input((4,), name="a"),
        "b": keras.Input((2,), name="b"),
    }
    x = layers.Concatenate()([inputs["a"], inputs["b"]])
    x = layers.Dense(5, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(NUM_CLASSES)(x))


def batches():
    x, y = data()
    for start in range(0, len(y), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        yield {key: value[rows] for key, value in x.items()}, y[rows]


class Again:
    """Of no known length."""

    def __iter__(self):
        return batches()


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(data()).batch(BATCH_SIZE)


def py_dataset():
    class Dataset(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return len(list(batches()))

        def __getitem__(self, index):
            return list(batches())[index]

    return Dataset()


def data_loader():
    data_tools = pytest.importorskip("torch.utils.data")
    x, y = data()
    samples = [
        ({key: value[i] for key, value in x.items()}, y[i])
        for i in range(len(y))
    ]
    return data_tools.DataLoader(samples, batch_size=BATCH_SIZE)


def weighted():
    return [(x, y, np.ones(len(y))) for x, y in batches()]


DATASETS = {
    "arrays": data,
    "generator": batches,
    "iterable": Again,
    "list": lambda: list(batches()),
    "weighted": weighted,
    "tf.data": tf_dataset,
    "PyDataset": py_dataset,
    "DataLoader": data_loader,
}


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_gives_the_same(name):
    expected, counts = class_gramian(model(), data(), NUM_CLASSES, verbose=0)
    dataset = DATASETS[name]()
    actual, seen = class_gramian(model(), dataset, NUM_CLASSES, verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(seen, counts)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"generator"}))
def test_datasets_are_read_in_every_pass(name):
    expected, counts = class_gramian(model(), data(), NUM_CLASSES, verbose=0)
    actual, seen = class_gramian(
        model(),
        DATASETS[name](),
        NUM_CLASSES,
        max_memory=4 * NUM_CLASSES * 20,
        verbose=0,
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(seen, counts)


def test_an_iterator_is_read_once():
    memory = 4 * NUM_CLASSES * 20
    with pytest.raises(ValueError, match="can be read only once"):
        class_gramian(model(), batches(), NUM_CLASSES, max_memory=memory)
    class_gramian(model(), batches(), NUM_CLASSES, projection=8, verbose=0)


def test_passes_must_agree():
    class Once:
        def __init__(self):
            self._iterator = batches()

        def __iter__(self):
            yield from self._iterator

    with pytest.raises(ValueError, match="same samples each time"):
        class_gramian(
            model(),
            Once(),
            NUM_CLASSES,
            max_memory=4 * NUM_CLASSES * 20,
            verbose=0,
        )


def test_progress_without_a_length(capsys):
    class_gramian(model(), batches(), NUM_CLASSES)
    assert "3/Unknown" in capsys.readouterr().out.replace("\x08", "")


def test_endless_py_datasets_are_refused():
    class Endless(keras.utils.PyDataset):
        num_batches = None

    with pytest.raises(ValueError, match="must be finite"):
        class_gramian(model(), Endless(), NUM_CLASSES)


def test_bad_datasets():
    x, y = data()
    with pytest.raises(ValueError, match="`dataset` must be a tuple"):
        class_gramian(model(), 3, NUM_CLASSES)
    with pytest.raises(ValueError, match="one array of labels"):
        class_gramian(model(), (x, None), NUM_CLASSES)
    with pytest.raises(ValueError, match="one array of labels"):
        class_gramian(model(), (x, {"a": y}), NUM_CLASSES)
    with pytest.raises(ValueError, match="one label"):
        class_gramian(model(), (x, y[:-1]), NUM_CLASSES)
    with pytest.raises(ValueError, match="one label"):
        class_gramian(model(), (x, y, np.ones(3)), NUM_CLASSES)
    with pytest.raises(ValueError, match="must hold samples"):
        class_gramian(model(), [], NUM_CLASSES, verbose=0)
