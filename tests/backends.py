"""What the tests of numerics do differently on each backend."""

import contextlib
import functools

import keras
import numpy as np
from keras import ops

# The version, as far as Keras' own abilities depend on it.
KERAS = tuple(int(part) for part in keras.__version__.split(".")[:2])
MODES = {
    "tensorflow": ("eager", "graph", "xla"),
    "jax": ("eager", "jit"),
    "torch": ("eager",),
}[keras.backend.backend()]
FASTEST = MODES[1:2] or MODES


@functools.cache
def compiled(function, mode=FASTEST[0]):
    """`function` of tensors, compiled or not, from and to NumPy arrays."""
    if mode in ("graph", "xla"):
        import tensorflow as tf

        function = tf.function(function, jit_compile=mode == "xla")
    elif mode == "jit":
        import jax

        function = jax.jit(function)

    def call(*arrays):
        tensors = [ops.convert_to_tensor(a, dtype=a.dtype) for a in arrays]
        return ops.convert_to_numpy(function(*tensors))

    return call


def forget_compiled():
    """Frees compiled code: JAX keeps all of it, each part in mapped memory.

    A process may map 65,530 parts on Linux, and crashes in the compiler where
    it has no more.
    """
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@contextlib.contextmanager
def double_precision():
    """JAX has float64 only on request; the others have it always."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


def gradient(function, x):
    """Gradient of a scalar function of one tensor, by the backend's autodiff.

    Zeros where the function does not depend on the tensor.
    """
    x = np.asarray(x, dtype="float32")
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        variable = tf.Variable(x)
        with tf.GradientTape() as tape:
            value = function(tf.convert_to_tensor(variable))
        result = tape.gradient(value, variable, unconnected_gradients="zero")
        return result.numpy()
    leaf = keras.ops.convert_to_tensor(x).requires_grad_()
    value = function(leaf)
    if value.requires_grad:
        value.backward()
    return np.zeros_like(x) if leaf.grad is None else leaf.grad.cpu().numpy()


def run_on_host(callback):
    """Calls a Python function each time that compiled code comes by."""
    if keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(callback)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.py_function(callback, [], [])
    else:
        callback()
