"""Bad input: it trains as plain Keras does, or an error says what is wrong."""

import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import layers
from keras import ops

import keras_mimo
from tests.backends import KERAS
from tests.test_fidelity import SumOfGradients

LOSSES = {
    "left": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "right": "mse",
}
SAMPLES = 6


def fuzz(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        # The fixture only resets names and random numbers.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def build(cls):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    shared = layers.Dense(3, activation="tanh")(inputs)
    left = layers.Dense(3, name="left")(shared)
    right = layers.Dense(1, name="right")(shared)
    return cls(inputs, {"left": left, "right": right})


def good_data():
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(SAMPLES, 4)).astype("float32"),
        "y": {
            "left": np.arange(SAMPLES) % 3,
            "right": rng.normal(size=(SAMPLES, 1)).astype("float32"),
        },
        "sample_weight": {
            "left": rng.uniform(0.5, 2, SAMPLES).astype("float32"),
            "right": rng.uniform(0.5, 2, SAMPLES).astype("float32"),
        },
    }


def train(combiner, data, **compile_options):
    """Returns the weights after one epoch, and the logged loss."""
    cls = keras.Model if combiner is None else keras_mimo.BalancedModel
    model = build(cls)
    options = {"loss": dict(LOSSES), "run_eagerly": True, **compile_options}
    if combiner is not None:
        options["combiner"] = combiner
    model.compile(keras.optimizers.SGD(0.1), **options)
    history = model.fit(**data, batch_size=4, shuffle=False, verbose=0)
    weights = [np.array(ops.convert_to_numpy(v)) for v in model.weights]
    return weights, history.history["loss"][0]


def raises_zero_division(variable):
    return 1 / 0


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-3, 99),
    st.floats(),
    st.text("ab/`", max_size=3),
    st.binary(max_size=2),
    st.sampled_from(["left", "layer", "dense", "mse", "mgda", "backbone"]),
    st.builds(object),
)
KEYS = st.sampled_from(["left", "right", "other", 1])
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=4,
)
OBJECTS = st.sampled_from(
    [
        object,
        raises_zero_division,
        np.zeros(3),
        set(),
        layers.Dense(2),
        keras.losses.MeanSquaredError,
        keras_mimo.MGDACombiner,
        keras_mimo.Outputs,
        keras_mimo.Outputs(),
        keras_mimo.Modalities(fused="left"),
        keras_mimo.SumCombiner(),
    ]
)
ARGUMENTS = [
    "combiner",
    "objectives",
    "balanced_variables",
    "blocks",
    "gradients_at",
    "loss",
    "loss_weights",
]


@pytest.mark.slow
@pytest.mark.parametrize("argument", ARGUMENTS)
@fuzz(examples=25)
@given(value=NESTED | OBJECTS, combiner=st.sampled_from(["mgda", "sum"]))
def test_compile_arguments(argument, value, combiner):
    options = {"combiner": combiner, argument: value}
    try:
        weights, loss = train(options.pop("combiner"), good_data(), **options)
    except (TypeError, ValueError) as error:
        assert re.search(r"`\w+`", str(error)), str(error)
    else:
        assert is_finite(weights) and np.isfinite(loss)


@pytest.mark.parametrize(
    "argument, values",
    {
        "combiner": [1, "nonsense", [], object, keras_mimo.Outputs()],
        "objectives": [1, "left", [], keras_mimo.Outputs],
        "balanced_variables": [1, "left", [], [99], [-99], [True], [None]],
        "blocks": [1, "left", [], {}, {"a": [99]}, {"a": 0}, lambda v: None],
        "gradients_at": [1, [], "nonsense", "x"],
        "loss": [None, 1, "nonsense", {}, {"left": None}, {"other": "mse"}],
        "loss_weights": ["a", [1.0], [True, 1.0], {"left": float("nan")}],
    }.items(),
)
def test_wrong_compile_arguments(argument, values):
    for value in values:
        model = build(keras_mimo.BalancedModel)
        options = {"loss": dict(LOSSES), "combiner": "mgda", argument: value}
        with pytest.raises((TypeError, ValueError), match=f"`{argument}`"):
            model.compile("sgd", **options)
            # What depends on the outputs shows in the first step.
            model.fit(**good_data(), verbose=0)


@pytest.mark.parametrize("argument", ["balanced_variables", "blocks"])
def test_a_function_of_variables_that_fails(argument):
    model = build(keras_mimo.BalancedModel)
    functions = [raises_zero_division, lambda: None]
    if argument == "blocks":
        functions.append(lambda variable: [])
    for function in functions:
        with pytest.raises(ValueError, match=f"`{argument}`.*dense/kernel"):
            model.compile(
                "sgd", dict(LOSSES), combiner="mgda", **{argument: function}
            )


def put(value, dtype=None):
    """A corruption: one entry of an array becomes `value`."""

    def corrupt(array):
        array = np.array(array, dtype=dtype or array.dtype)
        array.reshape(-1)[1] = value
        return array

    return corrupt


CORRUPTIONS = {
    "nan": put(np.nan, "float32"),
    "inf": put(np.inf, "float32"),
    "minus_inf": put(-np.inf, "float32"),
    "three": put(3),
    "minus_one": put(-1),
    "half": put(0.5, "float32"),
    "large": put(1e6, "float64"),
    "strings": lambda array: array.astype("str"),
    "bytes": lambda array: array.astype("bytes"),
    "objects": lambda array: array.astype("object"),
    "none": put(None, "object"),
    "bools": lambda array: array > 0,
    "int8": lambda array: array.astype("int8"),
    "float16": lambda array: array.astype("float16"),
    "float64": lambda array: array.astype("float64"),
    "another_axis": lambda array: array[..., None],
    "two_columns": lambda array: np.stack([array] * 2, axis=-1),
    "two_axes": lambda array: np.ones((SAMPLES, 2, 5), "float32"),
    "flat": lambda array: array.reshape(SAMPLES, -1)[:, 0],
    "scalar": lambda array: array.reshape(-1)[0],
    "a_row_less": lambda array: array[:-1],
    "no_rows": lambda array: array[:0],
    "list": lambda array: array.tolist(),
    "number": lambda array: 1.0,
    "nothing": lambda array: None,
}
REARRANGEMENTS = {
    "without_left": lambda tree: {"right": tree["right"]},
    "without_right": lambda tree: {"left": tree["left"]},
    "with_another": lambda tree: {**tree, "other": tree["right"]},
    "renamed": lambda tree: {"left": tree["left"], "other": tree["right"]},
    "list": lambda tree: list(tree.values()),
    "reversed": lambda tree: dict(reversed(tree.items())),
    "first": lambda tree: tree["left"],
    "nothing": lambda tree: None,
    "nested": lambda tree: {"left": [tree["left"]], "right": tree["right"]},
}
PLACES = [
    ("x", None),
    ("y", "left"),
    ("y", "right"),
    ("sample_weight", "left"),
    ("sample_weight", "right"),
]
FAULTS = st.tuples(st.sampled_from(PLACES), st.sampled_from(list(CORRUPTIONS)))
STRUCTURES = st.tuples(
    st.sampled_from(["y", "sample_weight"]),
    st.sampled_from(list(REARRANGEMENTS)),
)


def corrupted(fault, structure):
    data = good_data()
    if fault is not None:
        (argument, output), name = fault
        holder, key = data, argument
        if output is not None:
            holder, key = data[argument], output
        holder[key] = CORRUPTIONS[name](holder[key])
    if structure is not None:
        argument, name = structure
        data[argument] = REARRANGEMENTS[name](data[argument])
    return data


def outcome(combiner, data):
    try:
        return train(combiner, data)
    # Of plain Keras any error will do; ours are looked at below.
    except Exception as error:
        return error


def is_finite(weights):
    return all(np.isfinite(array).all() for array in weights)


# An argument, as we and Keras name them, an input or an output.
NAMED = re.compile(
    r"`\w+`|'(x|y|sample_weight)' sizes|output '(left|right)'|y_true|[Ii]nput"
)


# Before 3.14 Keras wraps what building a model raises.
CLEAR = (TypeError, ValueError, *([RuntimeError] if KERAS < (3, 14) else []))


@pytest.mark.slow
@fuzz(examples=60)
@given(fault=FAULTS | st.none(), structure=st.none() | STRUCTURES)
def test_data(fault, structure):
    check_data(corrupted(fault, structure))


def check_data(data):
    plain = outcome(None, data)
    for combiner in (SumOfGradients(), keras_mimo.MGDACombiner()):
        ours = outcome(combiner, data)
        if isinstance(ours, Exception):
            assert isinstance(ours, CLEAR), repr(ours)
            assert NAMED.search(str(ours)), repr(ours)
            # JAX and PyTorch take some labels for none, without a word.
            refused = "must be class ids" in str(ours)
            assert refused or isinstance(plain, Exception), repr(ours)
            continue
        assert not isinstance(plain, Exception), repr(plain)
        (expected, _), (weights, loss) = plain, ours
        if is_finite(expected):
            assert np.isfinite(loss) and is_finite(weights)
            if isinstance(combiner, SumOfGradients):
                for a, b in zip(weights, expected, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        else:
            assert not (np.isfinite(loss) and is_finite(weights))
