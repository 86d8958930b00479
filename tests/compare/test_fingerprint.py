import functools

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.compare.fingerprint import key_of
from tests.compare.two_sensors import build

EPOCHS = 3


def schedule():
    return [EPOCHS]


def make(number):
    return lambda: [number]


def model(seed, units=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(units)(inputs))


@pytest.mark.parametrize(
    "one, same, other",
    [
        (np.arange(3), np.arange(3), np.array([0, 1, 3])),
        (np.arange(3), np.arange(3), np.arange(3.0)),
        (
            keras.optimizers.Adam(0.1),
            keras.optimizers.Adam(0.1),
            keras.optimizers.Adam(0.2),
        ),
        (
            keras_mimo.MIMOCombiner(penalty=2.0),
            keras_mimo.MIMOCombiner(penalty=2.0),
            keras_mimo.MIMOCombiner(penalty=3.0),
        ),
        (keras_mimo.MIMOCombiner, keras_mimo.MIMOCombiner, keras_mimo.gbg),
        (make(1), make(1), make(2)),
        (
            functools.partial(make, 1),
            functools.partial(make, 1),
            functools.partial(make, 2),
        ),
        ({"a": 1, "b": [None]}, {"b": [None], "a": 1}, {"a": 1, "b": []}),
    ],
)
def test_equal_things_have_equal_keys(one, same, other):
    assert key_of(one) == key_of(same) != key_of(other)


def test_models_are_told_by_layers_and_weights():
    # Whatever numbers Keras gives the layers.
    assert key_of(model(0)) == key_of(model(0))
    assert key_of(model(0)) != key_of(model(1))
    assert key_of(model(0)) != key_of(model(0, units=4))
    keras.utils.set_random_seed(0)
    first = key_of(build())
    keras.utils.set_random_seed(0)
    assert key_of(build()) == first


def test_functions_without_a_source():
    def typed(number):
        found = {}
        exec(f"def f(): return [{number} + 1]", found)
        return found["f"]

    assert key_of(typed(1)) == key_of(typed(1)) != key_of(typed(2))
    assert key_of(len) != key_of(max)


def test_numbers_that_a_function_reads(monkeypatch):
    before = key_of(schedule)
    assert key_of(schedule) == before
    monkeypatch.setitem(globals(), "EPOCHS", 4)
    assert key_of(schedule) != before
