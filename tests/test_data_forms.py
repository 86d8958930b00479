"""The same data in another form trains the same weights."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers
from keras import ops

import keras_mimo
from tests.backends import KERAS
from tests.quick import quick
from tests.test_fidelity import SumOfGradients

# A model is compiled for each.
pytestmark = pytest.mark.slow

# The last batch is smaller.
SAMPLES = 22
BATCH = 8
EPOCHS = 2
LEFT = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
COMBINERS = {
    "mgda": keras_mimo.MGDACombiner,
    "mimo": lambda: keras_mimo.MIMOCombiner(fused="left"),
}


def arrays():
    rng = np.random.default_rng(0)
    x = {
        "a": rng.normal(size=(SAMPLES, 4, 3)).astype("float32"),
        "b": rng.normal(size=(SAMPLES, 2)).astype("float32"),
    }
    # Masked: sequences of different lengths.
    x["a"][np.arange(4) > rng.integers(4, size=(SAMPLES, 1))] = 0.0
    y = {
        "left": rng.integers(3, size=(SAMPLES, 4)).astype("int32"),
        "right": rng.normal(size=(SAMPLES, 1)).astype("float32"),
    }
    weights = {
        "left": rng.uniform(0.2, 2.0, (SAMPLES, 4)).astype("float32"),
        "right": rng.uniform(0.2, 2.0, SAMPLES).astype("float32"),
    }
    # A batch in which one objective has no sample.
    weights["left"][:BATCH] = 0.0
    return x, y, weights


def build(cls, arrange_inputs, arrange_outputs):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4, 3), name="a"), keras.Input((2,), name="b")
    shared = layers.Dense(5, activation="tanh")(layers.Masking()(a))
    left = layers.Dense(3, name="left")(shared)
    # Keras 3.12 pools in place on PyTorch, which spoils what it is given.
    scaled = layers.Rescaling(1.0)(shared)
    pooled = layers.GlobalAveragePooling1D()(scaled)
    pooled = layers.Concatenate()([pooled, b])
    # Its statistics show whether each batch was seen once.
    pooled = layers.BatchNormalization()(pooled)
    right = layers.Dense(1, name="right")(pooled)
    return cls(
        arrange_inputs({"a": a, "b": b}),
        arrange_outputs({"left": left, "right": right}),
    )


def as_dict(values):
    return dict(values)


def as_list(values):
    return list(values.values())


def as_tuple(values):
    return tuple(values.values())


def nested_dict(values):
    (first, one), (second, other) = values.items()
    return {"outer": {first: one}, second: other}


def nested_list(values):
    one, other = values.values()
    return [[one], other]


def train(
    combiner,
    feed,
    inputs=as_dict,
    outputs=as_dict,
    losses=None,
    **options,
):
    """Trains on what `feed` makes of the arrays; returns all weights."""
    cls = keras.Model if combiner is None else keras_mimo.BalancedModel
    model = build(cls, inputs, outputs)
    x, y, weights = arrays()
    losses = losses or {"left": LEFT, "right": "mse"}
    if combiner is not None:
        options["combiner"] = combiner
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), outputs(losses), **options
    )
    return fit(model, **feed((inputs(x), outputs(y), outputs(weights))))


def fit(model, **options):
    before = weights_of(model)
    model.fit(epochs=EPOCHS, shuffle=False, verbose=0, **options)
    after = weights_of(model)
    moved = [np.abs(a - b).max() for a, b in zip(after, before, strict=True)]
    assert max(moved) > 1e-2
    return after


def weights_of(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.weights]


def numpy_arrays(data):
    x, y, weights = data
    return dict(x=x, y=y, sample_weight=weights, batch_size=BATCH)


def at(data, rows):
    return keras.tree.map_structure(lambda array: array[rows], data)


def batches_of(data):
    for start in range(0, SAMPLES, BATCH):
        yield at(data, slice(start, start + BATCH))


def tensors(data):
    return numpy_arrays(keras.tree.map_structure(ops.convert_to_tensor, data))


def tf_data(data):
    data = keras.tree.lists_to_tuples(data)
    dataset = tf.data.Dataset.from_tensor_slices(data)
    return dict(x=dataset.batch(BATCH))


class Batches(keras.utils.PyDataset):
    def __init__(self, data):
        super().__init__()
        self._batches = list(batches_of(data))

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]


def py_dataset(data):
    return dict(x=Batches(data))


class Samples(torch.utils.data.Dataset):
    def __init__(self, data):
        self._data = data

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return at(self._data, index)


def data_loader(data):
    return dict(x=torch.utils.data.DataLoader(Samples(data), batch_size=BATCH))


def generator(data):
    def forever():
        while True:
            yield from batches_of(data)

    return dict(x=forever(), steps_per_epoch=-(-SAMPLES // BATCH))


FORMS = [tensors, tf_data, py_dataset, data_loader, generator]
STRUCTURES = {
    "lists": (as_list, as_list),
    "tuples": (as_tuple, as_tuple),
    "list_to_dict": (as_list, as_dict),
    "nested_dicts": (nested_dict, nested_dict),
    "nested_lists": (nested_list, nested_list),
}


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@functools.cache
def expected(combiner):
    return train(COMBINERS[combiner](), numpy_arrays)


@pytest.mark.parametrize(
    "form, combiner",
    quick(
        [(tf_data, "mgda"), (generator, "mimo")],
        itertools.product(FORMS, COMBINERS),
    ),
)
def test_forms(form, combiner):
    assert_equal(train(COMBINERS[combiner](), form), expected(combiner))


@pytest.mark.parametrize(
    "structure, form",
    quick(
        [
            *zip(STRUCTURES, FORMS, strict=True),
            ("nested_lists", numpy_arrays),
        ],
        itertools.product(STRUCTURES, [numpy_arrays, *FORMS]),
    ),
)
def test_structures(structure, form):
    """In eager mode, as one compilation for each takes long."""
    arrange = STRUCTURES[structure]
    if is_refused_by_keras(structure, form):
        with pytest.raises(TypeError, match="output_signature"):
            train(COMBINERS["mgda"](), form, *arrange, run_eagerly=True)
        return
    found = train(COMBINERS["mgda"](), form, *arrange, run_eagerly=True)
    assert_equal(found, expected("mgda"))


def is_refused_by_keras(structure, form):
    """Whether Keras would hand lists to a dataset of TensorFlow."""
    if keras.backend.backend() != "tensorflow" or structure == "nested_dicts":
        return False
    if form is data_loader and KERAS >= (3, 16):
        return False
    # What collates the samples of a loader makes lists of tuples.
    makes_lists = form is data_loader or structure != "tuples"
    return makes_lists and form in (py_dataset, data_loader, generator)


# Without "nested_lists": plain Keras can't train those on TensorFlow.
@pytest.mark.parametrize(
    "structure",
    quick(
        ["nested_dicts"],
        ["dicts", "lists", "tuples", "list_to_dict", "nested_dicts"],
    ),
)
def test_structures_equal_plain_keras(structure):
    arrange = STRUCTURES.get(structure, (as_dict, as_dict))
    plain, *ours = [
        train(combiner, numpy_arrays, *arrange, run_eagerly=True)
        for combiner in (None, SumOfGradients(), keras_mimo.SumCombiner())
    ]
    for found in ours:
        assert_equal(found, plain)


@pytest.mark.parametrize("combiner", [keras_mimo.SumCombiner, SumOfGradients])
def test_an_output_without_a_loss_needs_no_labels(combiner):
    def feed(data):
        x, y, _ = data
        return dict(x=x, y={**y, "right": None}, batch_size=BATCH)

    losses = {"left": LEFT, "right": None}
    plain = train(None, feed, losses=losses)
    assert_equal(train(combiner(), feed, losses=losses), plain)


def without_weights(form):
    """`fit()` arguments for inputs of one array and labels of another."""
    x, y, _ = arrays()
    return form((x["b"], y["left"][:, 0]))


def plain_arrays(data):
    x, y = data
    return dict(x=x, y=y, batch_size=BATCH)


def one_output(cls, combiner):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,))
    shared = layers.Dense(5, activation="tanh")(inputs)
    model = cls(inputs, layers.Dense(3)(shared))
    options = {} if combiner is None else {"combiner": combiner}
    model.compile(keras.optimizers.SGD(0.1), LEFT, **options)
    return model


@pytest.mark.parametrize(
    "form, combiner",
    quick(
        [(tf_data, SumOfGradients), (py_dataset, keras_mimo.SumCombiner)],
        itertools.product(
            [plain_arrays, tf_data, py_dataset],
            [keras_mimo.SumCombiner, SumOfGradients],
        ),
    ),
)
def test_class_weight(form, combiner):
    class_weight = {0: 0.2, 1: 3.0, 2: 0.0}
    plain = one_output(keras.Model, None)
    expected = fit(
        plain, **without_weights(plain_arrays), class_weight=class_weight
    )
    model = one_output(keras_mimo.BalancedModel, combiner())
    found = fit(model, **without_weights(form), class_weight=class_weight)
    assert_equal(found, expected)


@pytest.mark.parametrize("form", [data_loader, generator])
def test_class_weight_is_refused_where_keras_refuses_it(form):
    model = one_output(keras_mimo.BalancedModel, "mgda")
    with pytest.raises(ValueError, match="`class_weight` is not supported"):
        model.fit(**without_weights(form), class_weight={0: 1.0})
