import keras
from keras import ops

from keras_mimo.gradients.sparse import SparseGradient


def traced_branch(predicate, function, other, state):
    """Calls one of two functions, in a compiled step too.

    Args:
        predicate: Boolean scalar tensor: whether to call the first one.
        function: Function without arguments that returns a list of lists of
            gradients, or `None` in their place.
        other: Another one, with the same structure of results.
        state: Variables that the functions assign to, and no others.

    Returns:
        What the function returned.
    """
    values = [(v, ops.convert_to_tensor(v)) for v in state]
    restore = []

    def run(function):
        # A branch can't assign to variables on JAX.
        with keras.StatelessScope(values) as scope:
            blocks = function()
        parts = [[_parts(gradient) for gradient in block] for block in blocks]
        restore[:] = [[whole for _, whole in block] for block in parts]
        flat = [t for block in parts for tensors, _ in block for t in tensors]
        return flat, [scope.get_current_value(v) for v in state]

    flat, values = ops.cond(
        predicate, lambda: run(function), lambda: run(other)
    )
    for variable, value in zip(state, values, strict=True):
        variable.assign(value)
    flat = iter(flat)
    return [[whole(flat) for whole in block] for block in restore]


def _parts(gradient):
    """The tensors of a gradient, and how to read it from an iterator."""
    if gradient is None:
        return [], lambda flat: None
    if isinstance(gradient, SparseGradient):
        return [gradient.values, gradient.rows], lambda flat: SparseGradient(
            next(flat), next(flat), gradient.shape
        )
    return [gradient], next
