"""Labels that are no classes are found before training, on every backend."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_mimo
from tests.quick import quick

NAN = float("nan")
SPARSE = keras.losses.SparseCategoricalCrossentropy
LOSSES = {"kind": SPARSE(from_logits=True), "depth": "mse"}


def model_of(arrange=dict, loss=None, objectives=None, units=3):
    inputs = keras.Input((2,))
    shared = layers.Dense(4, activation="tanh")(inputs)
    kind = layers.Dense(units, name="kind")(shared)
    depth = layers.Dense(1, name="depth")(shared)
    outputs = arrange({"kind": kind, "depth": depth})
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1),
        arrange(LOSSES) if loss is None else loss,
        objectives=objectives,
        combiner="sum",
    )
    return model


def fit(model, kind, arrange=dict):
    kind = np.array(kind)
    x = np.ones((len(kind), 2), "float32")
    y = arrange({"kind": kind, "depth": np.ones((len(kind), 1), "float32")})
    loss = model.fit(x, y, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    return model


def as_list(values):
    return list(values.values())


def only_kind(values):
    return values["kind"]


@pytest.mark.parametrize("arrange", [dict, as_list, only_kind])
@pytest.mark.parametrize(
    "labels, wrong",
    [
        ([0, 3, 1], r"\[3\]"),
        ([0, -1, 1], r"\[-1\]"),
        ([[0], [7], [3]], r"\[3, 7\]"),
        ([0.0, NAN, 1.0], r"\[nan\]"),
        ([0.0, float("inf"), 1.0], r"\[inf\]"),
        ([0.0, 0.5, 1.0], r"\[0.5\]"),
    ],
)
def test_no_classes(labels, wrong, arrange):
    model = model_of(arrange)
    before = ops.convert_to_numpy(model.weights[0]).copy()
    with pytest.raises(
        ValueError,
        match=f"output 'kind' must be class ids from 0 to 2.*{wrong}",
    ):
        fit(model, labels, arrange)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.weights[0]), before
    )


@pytest.mark.parametrize("arrange", [dict, as_list, only_kind])
@pytest.mark.parametrize("labels", [[0, 2, 1], [[0], [2]], [0.0, 2.0]])
def test_classes(labels, arrange):
    fit(model_of(arrange), labels, arrange)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras_mimo.losses.BalancedSoftmax([3, 2, 1]),
    ],
)
def test_losses_that_take_class_ids(loss):
    model = model_of(loss={"kind": loss, "depth": "mse"})
    with pytest.raises(ValueError, match="class ids from 0 to 2"):
        fit(model, [[0], [3]])
    fit(model, [[0], [2]])


@pytest.mark.parametrize(
    "loss, labels",
    [
        ("mse", [[0.5, -1.0, 7.0]]),
        ("categorical_crossentropy", [[0.5, 0.5, 0.0]]),
        (keras_mimo.losses.BalancedSoftmax([3, 2, 1]), [[0.5, 0.5, 0.0]]),
    ],
)
def test_losses_that_take_other_labels(loss, labels):
    fit(model_of(loss={"kind": loss, "depth": "mse"}), labels)


def test_a_class_that_the_loss_ignores():
    loss = {"kind": SPARSE(True, ignore_class=-1), "depth": "mse"}
    fit(model_of(loss=loss), [0, -1, 1])
    with pytest.raises(ValueError, match=r"Received: \[-2\]"):
        fit(model_of(loss=loss), [0, -1, -2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing, labels",
    [(-1, [0, -1]), ({"kind": 9}, [0, 9]), (NAN, [0.0, NAN])],
)
def test_labels_that_are_missing(missing, labels):
    objectives = keras_mimo.Outputs(missing_label=missing)
    fit(model_of(objectives=objectives), labels)
    with pytest.raises(ValueError, match=r"Received: \[5"):
        fit(model_of(objectives=objectives), [*labels, 5])


def test_one_label_for_every_modality():
    inputs = keras.Input((2,))
    outputs = {n: layers.Dense(3, name=n)(inputs) for n in ("fused", "one")}
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        "sgd",
        SPARSE(from_logits=True),
        objectives=keras_mimo.Modalities(),
        combiner="sum",
    )
    x = np.ones((2, 2), "float32")
    with pytest.raises(ValueError, match="output 'fused' must be class ids"):
        model.fit(x, np.array([0, 3]), verbose=0)


def test_the_axis_of_the_classes():
    inputs = keras.Input((2,))
    outputs = layers.Reshape((2, 5), name="kind")(layers.Dense(10)(inputs))
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile("sgd", SPARSE(from_logits=True, axis=1), combiner="sum")
    x = np.ones((3, 2), "float32")
    with pytest.raises(ValueError, match=r"0 to 1. Received: \[4\]"):
        model.fit(x, np.full((3, 5), 4), verbose=0)


def batches(kind):
    """A generator, since Keras finds its labels in the step only."""
    kind = np.array(kind)
    for start in range(0, len(kind), 2):
        labels = kind[start : start + 2]
        depth = np.ones((len(labels), 1), "float32")
        yield (
            np.ones((len(labels), 2), "float32"),
            {
                "kind": labels,
                "depth": depth,
            },
        )


class Subclassed(keras_mimo.BalancedModel):
    """A model whose outputs are not known before it runs."""

    def __init__(self):
        super().__init__()
        self.kind = layers.Dense(3)
        self.depth = layers.Dense(1)

    def call(self, x):
        return {"kind": self.kind(x), "depth": self.depth(x)}


def subclassed():
    model = Subclassed()
    model.compile("sgd", LOSSES, combiner="sum")
    return model


WAYS = {
    "fit": lambda model, kind: model.fit(batches(kind), verbose=0),
    "validation": lambda model, kind: model.fit(
        batches([0, 1]), validation_data=batches(kind), verbose=0
    ),
    "evaluate": lambda model, kind: model.evaluate(batches(kind), verbose=0),
    "train_on_batch": lambda model, kind: model.train_on_batch(
        *next(batches(kind))
    ),
    "test_on_batch": lambda model, kind: model.test_on_batch(
        *next(batches(kind))
    ),
}


@pytest.mark.parametrize(
    "way, make",
    quick(
        [("validation", model_of), ("train_on_batch", subclassed)],
        itertools.product(WAYS, [model_of, subclassed]),
    ),
)
def test_batches(way, make):
    model = make()
    WAYS[way](model, [0, 1])
    with pytest.raises(
        ValueError,
        match=r"output 'kind' must be class ids from 0 to 2. "
        r"Received: (\[-1, 5\]|2 other labels)",
    ):
        WAYS[way](model, [-1, 5])
    # What one batch had wrong is not held against the next.
    WAYS[way](model, [0, 1])


@pytest.mark.parametrize(
    "kind", [[[0], [7]], [0.0, NAN], [float("inf"), 0.0], [0.0, 0.5]]
)
def test_labels_of_other_forms(kind):
    with pytest.raises(ValueError, match="Received: 1 other labels"):
        model_of().fit(batches(kind), verbose=0)


def test_labels_of_an_epoch_are_counted():
    with pytest.raises(ValueError, match="Received: 2 other labels"):
        # Validation resets metrics before the epoch is over.
        model_of().fit(
            batches([-1, 1, 2, 3]), validation_data=batches([0, 1]), verbose=0
        )


def test_arrays_to_validate_with_are_checked_before_training():
    model = model_of()
    before = ops.convert_to_numpy(model.weights[0]).copy()
    (good, bad) = (next(batches(kind)) for kind in ([0, 1], [0, 3]))
    with pytest.raises(ValueError, match=r"Received: \[3\]"):
        model.fit(*good, validation_data=bad, verbose=0)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model.weights[0]), before
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "float16"])
def test_dtypes_of_class_ids(dtype):
    model = model_of()
    model.fit(batches(np.array([0, 2], dtype)), verbose=0)
    with pytest.raises(ValueError, match="Received: 1 other labels"):
        model.fit(batches(np.array([0, 3], dtype)), verbose=0)


def test_batches_with_labels_that_are_left_out():
    loss = {"kind": SPARSE(True, ignore_class=-1), "depth": "mse"}
    model_of(loss=loss).fit(batches([0, -1]), verbose=0)
    objectives = keras_mimo.Outputs(missing_label={"kind": -1})
    model_of(objectives=objectives).fit(batches([0, -1]), verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        "crossentropy",
        SPARSE(from_logits=True),
        keras_mimo.losses.BalancedSoftmax([3, 2, 1]),
    ],
)
@pytest.mark.parametrize("kind", [None, np.ones((2, 2, 2, 2))])
def test_labels_that_are_none_or_of_too_many_axes(loss, kind):
    model = model_of(loss={"kind": loss, "depth": "mse"})
    x, y = next(batches([0, 1]))
    # Keras 3.16 itself asks labels that are None for their shape.
    message = r"`loss` .*output 'kind' failed|`y`.*'kind': None"
    with pytest.raises(ValueError, match=message):
        model.fit(x, {**y, "kind": kind}, verbose=0)


def test_the_count_is_not_logged():
    model = model_of()
    history = model.fit(batches([0, 1]), verbose=0).history
    logs = model.evaluate(batches([0, 1]), return_dict=True, verbose=0)
    plain = {"loss", "kind_loss", "depth_loss"}
    assert set(logs) == plain
    assert set(history) == plain | {"kind_weight", "depth_weight"}
