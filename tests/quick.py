"""What of a test's parameters the quick part of the tests keeps."""

import pytest


def quick(kept, values):
    """Values to parametrise by, of which all but a few are slow.

    Args:
        kept: Those that the quick part keeps: cases that together have each
            option once, where `values` is a product.
        values: All of them: names, objects, or tuples of several arguments.
    """
    kept, values = list(kept), list(values)
    for value in kept:
        assert value in values, value
    return [_param(value, slow=value not in kept) for value in values]


def _param(value, slow):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=[pytest.mark.slow] if slow else [])
