import keras
from keras import ops


def traced_branch(predicate, function, other, state):
    """Calls one of two functions, in a compiled step too.

    Args:
        predicate: Boolean scalar tensor: whether to call the first one.
        function: Function without arguments that returns a list of lists of
            tensors, or `None` in their place.
        other: Another one, with the same structure of results.
        state: Variables that the functions assign to, and no others.

    Returns:
        What the function returned.
    """
    values = [(v, ops.convert_to_tensor(v)) for v in state]
    present = []

    def run(function):
        # A branch can't assign to variables on JAX.
        with keras.StatelessScope(values) as scope:
            blocks = function()
        present[:] = [[g is not None for g in block] for block in blocks]
        flat = [g for block in blocks for g in block if g is not None]
        return flat, [scope.get_current_value(v) for v in state]

    flat, values = ops.cond(
        predicate, lambda: run(function), lambda: run(other)
    )
    for variable, value in zip(state, values, strict=True):
        variable.assign(value)
    flat = iter(flat)
    return [
        [next(flat) if there else None for there in block] for block in present
    ]
