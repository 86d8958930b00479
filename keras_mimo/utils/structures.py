"""Nested structures whose dicts keep their order.

Those that went through `keras.tree` are sorted on PyTorch, there only, and at
the top only: a model that another backend reads would take one input for the
other.
"""


def map_with_path(function, structure, path=()):
    """`function(path, leaf)` of every leaf, with dicts in their order."""
    if isinstance(structure, dict):
        return {
            key: map_with_path(function, value, (*path, key))
            for key, value in structure.items()
        }
    if isinstance(structure, (list, tuple)):
        mapped = [
            map_with_path(function, value, (*path, index))
            for index, value in enumerate(structure)
        ]
        return type(structure)(mapped)
    return function(path, structure)


def in_order_of(structure, values):
    """`values`, with the keys of all dicts in the order of `structure`'s.

    What does not fit is left as it is.
    """
    if isinstance(structure, dict) and isinstance(values, dict):
        if set(structure) != set(values):
            return values
        return {
            key: in_order_of(structure[key], values[key]) for key in structure
        }
    sequences = (list, tuple)
    if isinstance(structure, sequences) and isinstance(values, sequences):
        if len(structure) != len(values):
            return values
        pairs = zip(structure, values, strict=True)
        return type(values)([in_order_of(s, v) for s, v in pairs])
    return values
