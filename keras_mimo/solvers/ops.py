"""The operations of `keras.ops` that small problems need, also in NumPy.

A call of PyTorch's takes as long for K numbers as for thousands, and that of
NumPy a tenth of it. Where tensors are in the memory of the CPU and nothing is
compiled, `keras_mimo.gradients` runs in NumPy, by `in_numpy()`, what is written
in these: with the same types, to the same rounding.
"""

import contextvars
import functools

import keras
import numpy as np

_numpy = contextvars.ContextVar("numpy", default=False)


def is_numpy():
    """Whether the operations are those of NumPy."""
    return _numpy.get()


def in_numpy(function, arrays):
    """Calls a function of arrays while the operations are those of NumPy."""
    token = _numpy.set(True)
    try:
        # As tensors do, without a word.
        with np.errstate(all="ignore"):
            return function(*arrays)
    finally:
        _numpy.reset(token)


# No functools.cache: the compiler of PyTorch warns of it.
_names: dict = {}


def dtype_name(dtype):
    """The name of a type, which Keras takes longer to tell than a product."""
    if dtype not in _names:
        _names[dtype] = keras.backend.standardize_dtype(dtype)
    return _names[dtype]


def finfo(dtype):
    """`numpy.finfo` of the type of a tensor."""
    return np.finfo(dtype_name(dtype))


def _either(name, in_numpy):
    operation = getattr(keras.ops, name)

    @functools.wraps(operation)
    def call(*args, **kwargs):
        if _numpy.get():
            return in_numpy(*args, **kwargs)
        return operation(*args, **kwargs)

    return call


def _reduced(ufunc):
    def call(x, axis=None, keepdims=False):
        return ufunc.reduce(x, axis=axis, keepdims=keepdims)

    return call


def _array(x, dtype=None):
    if not isinstance(x, (np.ndarray, np.generic, list, float, int)):
        x = keras.ops.convert_to_numpy(x)
    return np.asarray(x, dtype)


def _while(condition, body, variables, maximum_iterations):
    for _ in range(maximum_iterations):
        if not condition(*variables):
            break
        variables = body(*variables)
    return variables


def _for(start, stop, body, state):
    for index in range(start, stop):
        state = body(index, state)
    return state


def _softmax(x):
    powers = np.exp(x - np.max(x))
    return powers / np.sum(powers)


absolute = _either("absolute", np.absolute)
all = _either("all", _reduced(np.logical_and))
any = _either("any", _reduced(np.logical_or))
append = _either("append", np.append)
arange = _either("arange", np.arange)
argsort = _either("argsort", np.argsort)
broadcast_to = _either("broadcast_to", np.broadcast_to)
cast = _either("cast", lambda x, dtype: x.astype(dtype, copy=False))
clip = _either("clip", np.clip)
convert_to_tensor = _either("convert_to_tensor", _array)
diagonal = _either("diagonal", np.diagonal)
eigh = _either("eigh", np.linalg.eigh)
equal = _either("equal", np.equal)
expm1 = _either("expm1", np.expm1)
eye = _either("eye", lambda size, dtype: np.eye(size, dtype=dtype))
flip = _either("flip", np.flip)
fori_loop = _either("fori_loop", _for)
isfinite = _either("isfinite", np.isfinite)
log = _either("log", np.log)
log1p = _either("log1p", np.log1p)
logical_not = _either("logical_not", np.logical_not)
max = _either("max", _reduced(np.maximum))
maximum = _either("maximum", np.maximum)
min = _either("min", _reduced(np.minimum))
minimum = _either("minimum", np.minimum)
ones_like = _either("ones_like", np.ones_like)
qr = _either("qr", np.linalg.qr)
relu = _either("relu", lambda x: np.maximum(x, 0))
softmax = _either("softmax", _softmax)
solve = _either("solve", np.linalg.solve)
solve_triangular = _either("solve_triangular", np.linalg.solve)
sort = _either("sort", np.sort)
sqrt = _either("sqrt", np.sqrt)
stack = _either("stack", np.stack)
stop_gradient = _either("stop_gradient", lambda x: x)
sum = _either("sum", _reduced(np.add))
take = _either("take", np.take)
trace = _either("trace", np.trace)
tri = _either("tri", np.tri)
triu = _either("triu", np.triu)
where = _either("where", np.where)
while_loop = _either("while_loop", _while)
zeros_like = _either("zeros_like", np.zeros_like)
