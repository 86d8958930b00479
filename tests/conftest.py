import os

# Before anything imports Keras, which reads both once.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest

from tests.backends import forget_compiled


@pytest.fixture(autouse=True)
def fresh_keras():
    """Every test starts with the same names and random numbers."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def bounded_caches():
    """What a module compiled goes with it."""
    yield
    forget_compiled()
