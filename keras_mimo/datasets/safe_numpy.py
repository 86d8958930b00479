"""Reads pickles and `.npy` files of Python objects, without trusting them.

No callable that a file names is ever called. The few names that NumPy writes
are answered with the stand-ins below: they record what the file describes, and
the arrays are built from that once the pickle has been read. Admitting NumPy's
own functions would not be enough: with `numpy.dtype.__setstate__` or `scalar`
alone a file can make objects out of forged pointers.
"""

import math
import pickle
import re

import numpy as np

_PLAIN_DTYPE = re.compile(r"b1|[iufcSU]\d+|O[48]")


def load_object_array(path):
    """Loads an object array from a `.npy` file, without running its code.

    `numpy.load` needs `allow_pickle=True` for such files, and then a file can
    run any code. This function reads the same files as long as they hold NumPy
    arrays and scalars (booleans, numbers, strings, objects) and plain Python
    values (numbers, strings, bytes, `None`, lists, tuples, dicts), and
    refuses all else. Files of NumPy 1 and NumPy 2 are both read.

    Args:
        path: Path of a `.npy` file that `numpy.save` wrote.

    Returns:
        A NumPy array of dtype `object`.

    Raises:
        ValueError: The file is no `.npy` file, or holds no object array.
        pickle.UnpicklingError: The file holds something that is not admitted
            (the message names it, as `module.name`), or is damaged.

    Example:

    ```python
    np.save("recordings.npy", np.array([{"x": np.ones(3)}], dtype=object))
    recordings = load_object_array("recordings.npy")
    ```
    """
    with open(path, "rb") as file:
        shape = _read_shape(file, path)
        array = _load(file, path, shape, copy=True)
    return array


def load_pickle(path):
    """Loads a pickle of arrays and plain values, without running its code.

    `pickle.load` runs any code that a file holds. This function reads the same
    files, of the protocols 2 to 5 and of NumPy 1 and NumPy 2, as long as they
    hold what `load_object_array` admits, and refuses all else.

    Args:
        path: Path of a file that `pickle.dump` wrote.

    Returns:
        What was pickled. Its arrays are not copied, but views of what was read,
        and most can't be written to.

    Raises:
        pickle.UnpicklingError: The file holds something that is not admitted
            (the message names it, as `module.name`), is damaged, or is no
            pickle.

    Example:

    ```python
    with open("clips.pkl", "wb") as file:
        pickle.dump({"train": {"audio": np.ones((8, 50, 74))}}, file)
    clips = load_pickle("clips.pkl")
    ```
    """
    with open(path, "rb") as file:
        return _load(file, path)


def _load(file, path, shape=None, copy=False):
    """Loads a pickle: an array, where its `shape` is given."""
    try:
        loaded = _build(_Unpickler(file).load(), {}, copy)
        if shape is not None and (
            not isinstance(loaded, np.ndarray) or loaded.shape != shape
        ):
            raise ValueError(f"no array of shape {shape} follows its header")
    # A damaged pickle can raise any exception.
    except Exception as error:
        kind = "pickle" if shape is None else "object array"
        raise pickle.UnpicklingError(
            f"Cannot load the {kind} in `{path}`: {error}. Expected a complete "
            "file, with NumPy arrays and plain Python values only."
        ) from error
    return loaded


def _read_shape(file, path):
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"format version {version}")
        shape, _, dtype = readers[version](file)
        if dtype.kind != "O":
            raise ValueError(f"an array of dtype {dtype}")
    # A damaged header can raise the exceptions of Python's tokenizer too.
    except Exception as error:
        raise ValueError(
            "Expected `path` to be a `.npy` file with an object array. "
            f"Received: path={path} ({error})"
        ) from error
    return shape


class _Dtype:
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, code, *_):
        if not _PLAIN_DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds the dtype {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    __hash__ = None  # type: ignore[assignment]
    # How its axes were moved before it was written.
    axes = None

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, self.shape, dtype, self.fortran_order, self.content = state
        self.dtype = dtype.dtype

    def allocate(self, copy):
        order = "F" if self.fortran_order else "C"
        if type(self.content) is list:
            size = math.prod(self.shape)
            if self.dtype.kind != "O" or len(self.content) != size:
                raise ValueError("an array does not fit its content")
            return np.empty(self.shape, object, order)
        array = _from_bytes(self.shape, self.dtype, self.content, order)
        if self.axes is not None:
            array = array.transpose(self.axes)
        return array.copy("K") if copy else array


def _from_buffer(content, dtype, shape, order, axes=None):
    """What protocol 5 writes instead of an array and its state."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    array.axes = axes
    return array


def _from_bytes(shape, dtype, content, order="C"):
    # NumPy would take the bytes for pointers.
    if dtype.kind == "O":
        raise pickle.UnpicklingError("it holds forged objects")
    # Without a buffer, NumPy would show what the memory had held.
    if not isinstance(content, (bytes, bytearray)):
        raise ValueError("an array does not fit its content")
    return np.ndarray(shape, dtype, content, order=order)


def _scalar(dtype, content):
    return _from_bytes((), dtype.dtype, content)[()]


def _encode(text, encoding):
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds the encoding {encoding!r}")
    return text.encode("latin1")


class _Global:
    """What a name in the file stands for: callable, closed to changes."""

    __slots__ = ("call",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, call):
        self.call = call

    def __call__(self, *args):
        return self.call(*args)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it changes what it names")


_GLOBALS = {
    # No bytes, in protocol 2.
    "__builtin__.bytes": _Global(lambda: b""),
    "_codecs.encode": _Global(_encode),
    "numpy.dtype": _Global(_Dtype),
    "numpy.ndarray": _Global(None),
}
for _core in ("numpy.core", "numpy._core"):
    _GLOBALS[f"{_core}.multiarray._reconstruct"] = _Global(_Array)
    _GLOBALS[f"{_core}.multiarray.scalar"] = _Global(_scalar)
    _GLOBALS[f"{_core}.numeric._frombuffer"] = _Global(_from_buffer)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if f"{module}.{name}" not in _GLOBALS:
            raise pickle.UnpicklingError(f"it holds `{module}.{name}`")
        return _GLOBALS[f"{module}.{name}"]


def _build(node, done, copy):
    """Replaces the stand-ins below `node`; `done` keeps shared parts shared."""
    if isinstance(node, _Dtype):
        return node.dtype
    if isinstance(node, _Global):
        raise pickle.UnpicklingError("it holds a function or a class")
    if not isinstance(node, (list, tuple, dict, _Array)):
        return node
    if id(node) in done:
        return done[id(node)][1]
    if isinstance(node, tuple):
        built = tuple(_build(item, done, copy) for item in node)
        done[id(node)] = node, built
        return built
    built = node.allocate(copy) if isinstance(node, _Array) else node
    # The node is kept as well, so that its id cannot be used again.
    done[id(node)] = node, built
    if isinstance(node, list):
        node[:] = [_build(item, done, copy) for item in node]
    elif isinstance(node, dict):
        for key, value in node.items():
            node[key] = _build(value, done, copy)
    elif built.dtype.kind == "O":
        for index, item in zip(
            np.ndindex(built.shape), node.content, strict=True
        ):
            built[index] = _build(item, done, copy)
    return built
