"""What tells one run from another, as text that is the same another day."""

import functools
import hashlib
import inspect
import json
import re

import keras
import numpy as np
from keras import ops

# Keras numbers the layers of a process: `dense_3`.
_NUMBER = re.compile(r"_\d+(?![a-z0-9])")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PLAIN = (str, bool, int, float, type(None))


def key_of(value):
    """A short name of a value, by all that it is made of."""
    text = json.dumps(described(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def described(value):
    """A value as what JSON can hold.

    Arrays and weights are told by a hash, functions by their source and by the
    values that they take from around them, objects of Keras by their config. Of
    a dataset only the class and the number of batches are told.
    """
    if isinstance(value, str):
        return _NUMBER.sub("", value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(key): described(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [described(entry) for entry in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) or ops.is_tensor(value):
        return _of_array(np.asarray(ops.convert_to_numpy(value)))
    if isinstance(value, keras.Variable):
        return described(value.value)
    if isinstance(value, functools.partial):
        return described([value.func, value.args, value.keywords])
    if inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    if inspect.isroutine(value):
        return _of_function(value)
    if isinstance(value, keras.KerasTensor):
        return [described(value.shape), value.dtype]
    return [described(type(value)), _of_object(value)]


def _of_array(array):
    values = np.ascontiguousarray(array)
    content = (
        repr(array.tolist()).encode() if array.dtype == object else values.data
    )
    digest = hashlib.sha256(content).hexdigest()
    return [str(array.dtype), list(array.shape), digest]


def _of_function(function):
    function = inspect.unwrap(function)
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        # Typed in, or one of Python's own.
        source = _of_code(getattr(function, "__code__", None))
    try:
        found = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return [name, source]
    around = dict(found.nonlocals)
    around |= {k: v for k, v in found.globals.items() if _is_plain(v)}
    around.pop(function.__name__, None)
    return [name, source, described(around)]


def _of_code(code):
    if not inspect.iscode(code):
        return repr(code)
    constants = [_of_code(constant) for constant in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _of_object(value):
    if isinstance(value, keras.Model):
        weights = [[v.dtype, described(v)] for v in value.variables]
        return [_config(value), weights]
    if isinstance(value, keras.utils.PyDataset):
        return value.num_batches
    if hasattr(value, "cardinality"):
        return int(value.cardinality())
    if hasattr(value, "get_config"):
        return _config(value)
    if hasattr(value, "__len__"):
        return len(value)
    return _ADDRESS.sub("", repr(value))


def _config(value):
    try:
        return described(value.get_config())
    except NotImplementedError:
        # A class without one: its weights and its name have to do.
        return None
