import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("others have a branch for it", allow_module_level=True)

from keras_mimo.gradients.jax import _CounterWatch


class Counter:
    """What a step leaves, and whether anyone waited for it."""

    def __init__(self, value):
        self.value = value
        self.was_read = False

    def __int__(self):
        self.was_read = True
        return self.value


def test_a_counter_is_read_where_it_may_be_zero():
    rng = np.random.default_rng(0)
    watch = _CounterWatch(8)
    value, reads = 0, 0
    counter = Counter(value)
    for step in range(200):
        assert watch.is_zero(counter) == (counter.value == 0)
        reads += counter.was_read
        # Some steps are undone, and leave it.
        value = (value + (rng.uniform() < 0.9)) % 8
        counter = Counter(value)
        watch.moved_to(counter)
        if step == 100:
            # Another state, as after loading.
            value = 0
            counter = Counter(value)
    assert reads < 80
