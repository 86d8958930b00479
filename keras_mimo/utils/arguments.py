import math
import operator


def check_number(argument, given, positive=True):
    """A finite number, as a float.

    Args:
        argument: String, what error messages call it.
        given: What the user gave.
        positive: Boolean: whether it must be more than 0, or may be 0.

    Returns:
        A float.

    Raises:
        TypeError: If `given` is no number.
        ValueError: If it is negative, not finite, or 0 where it must not be.
    """
    kind = "positive" if positive else "non-negative"
    try:
        valid = (given > 0 if positive else given >= 0) and given < math.inf
    except TypeError:
        raise TypeError(
            f"`{argument}` must be a {kind}, finite number. "
            f"Received: {argument}={given} of type {type(given)}"
        ) from None
    if not valid:
        raise ValueError(
            f"`{argument}` must be a {kind}, finite number. "
            f"Received: {argument}={given}"
        )
    return float(given)


def check_numbers(argument, given):
    """A number for all objectives, or one for each, as plain floats.

    Args:
        argument: String, what error messages call it.
        given: Float, list of floats in the order of the objectives, or dict
            that maps the names of objectives to floats.

    Returns:
        A float, a list of floats or a dict of floats.

    Raises:
        TypeError: If `given` is none of these.
        ValueError: If a number is not finite.
    """
    if isinstance(given, dict):
        numbers = given.values()
    else:
        numbers = given if isinstance(given, (list, tuple)) else [given]
    try:
        finite = all(math.isfinite(number) for number in numbers)
    except TypeError:
        raise TypeError(
            f"`{argument}` must be a float, a list or a dict of floats. "
            f"Received: {argument}={given} of type {type(given)}"
        ) from None
    if not finite:
        raise ValueError(
            f"`{argument}` must be finite. Received: {argument}={given}"
        )
    if isinstance(given, dict):
        return {name: float(number) for name, number in given.items()}
    if isinstance(given, (list, tuple)):
        return [float(number) for number in given]
    return float(given)


def one_each(argument, given, objective_names):
    """One float for each objective; 0 for those that a dict leaves out.

    Args:
        argument: String, what error messages call it.
        given: What `check_numbers()` returned.
        objective_names: List of strings.

    Returns:
        List of floats.

    Raises:
        ValueError: If `given` does not fit the objectives.
    """
    if isinstance(given, float):
        return [given] * len(objective_names)
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(objective_names))
        if unknown:
            raise ValueError(
                f"`{argument}` names objectives that the model does not have: "
                f"{unknown}. Its objectives are {objective_names}."
            )
        return [given.get(name, 0.0) for name in objective_names]
    if len(given) != len(objective_names):
        raise ValueError(
            f"`{argument}` must have one entry for each of the objectives "
            f"{objective_names}. Received: {argument}={given}"
        )
    return given


def check_units(argument, given, positive=True):
    """A positive integer, or one that may be 0."""
    kind = "positive" if positive else "non-negative"
    try:
        units = operator.index(given)
    except TypeError:
        raise TypeError(
            f"`{argument}` must be a {kind} integer. "
            f"Received: {argument}={given!r}"
        ) from None
    if units < positive:
        raise ValueError(
            f"`{argument}` must be a {kind} integer. "
            f"Received: {argument}={given!r}"
        )
    return units


def check_fraction(argument, given):
    """A number from 0 to 1, as a float."""
    given = check_number(argument, given, positive=False)
    if given > 1:
        raise ValueError(
            f"`{argument}` must be from 0 to 1. Received: {argument}={given}"
        )
    return given


def check_nonnegative_integer(argument, given):
    """An integer that is at least 0."""
    try:
        number = operator.index(given)
    except TypeError:
        number = -1
    if number < 0:
        error = ValueError if hasattr(given, "__index__") else TypeError
        raise error(
            f"`{argument}` must be a non-negative integer. "
            f"Received: {argument}={given!r}"
        )
    return number
