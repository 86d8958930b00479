import os
from pathlib import Path

# Before anything imports Keras or JAX, which read them once.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Most of the time of the tests on JAX goes into compiling, much of it the same.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(Path(__file__).parents[1] / ".pytest_cache" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras
import pytest

from tests.backends import forget_compiled

# What trains for longer than it compiles: make test-all has XLA optimise it.
LONG = [
    "benchmarks",
    "compare",
    "docs",
    "examples",
    "test_long_runs.py",
    "test_resume.py",
]


def pytest_collection_modifyitems(items):
    folder = Path(__file__).parent
    for item in items:
        if item.path.relative_to(folder).parts[0] in LONG:
            item.add_marker("long")


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
