import operator


def check_units(argument, given):
    """A positive integer."""
    try:
        units = operator.index(given)
    except TypeError:
        raise TypeError(
            f"`{argument}` must be a positive integer. "
            f"Received: {argument}={given!r}"
        ) from None
    if units < 1:
        raise ValueError(
            f"`{argument}` must be a positive integer. "
            f"Received: {argument}={given!r}"
        )
    return units
