import inspect

import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner


def get(identifier):
    """Returns a combiner by its name, as `keras.optimizers.get()` does.

    Args:
        identifier: A combiner, which is returned as it is; the name of one that
            needs no arguments, such as `"mgda"`, `"nash_mtl"` or
            `"MGDACombiner"` (case and underscores do not matter); the
            configuration of one, a dict; or `None`.

    Returns:
        A `BalancedGradientCombiner`, or `None` for `None`.

    Raises:
        ValueError: If there is no combiner of that name.
        TypeError: If `identifier` is of another type.

    Example:

    >>> keras_mimo.combiners.get("mgda")
    <MGDACombiner name=mgda_combiner, built=False>
    """
    if isinstance(identifier, dict):
        identifier = _from_config(identifier)
    if isinstance(identifier, str):
        return _by_name(identifier)
    if identifier is None or isinstance(identifier, BalancedGradientCombiner):
        return identifier
    raise TypeError(
        "`combiner` must be a `BalancedGradientCombiner`, the name or the "
        "configuration of one, or None. "
        f"Received: combiner={identifier} of type {type(identifier)}"
    )


def _from_config(config):
    try:
        return keras.saving.deserialize_keras_object(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "`combiner` must be the configuration of a combiner where it is a "
            f"dict. Received: combiner={config}: {error}"
        ) from error


def names():
    """Sorted names by which `get()` knows the combiners."""
    return sorted(_classes())


def _by_name(identifier):
    plain = identifier.lower().replace("_", "").replace("-", "")
    for name, cls in _classes().items():
        if plain.removesuffix("combiner") == name.replace("_", ""):
            return cls()
    raise ValueError(
        "`combiner` must be the name of a combiner that needs no arguments, "
        f"one of {names()}. Received: combiner={identifier!r}"
    )


def _classes():
    """The public combiners that need no arguments, by the name of their file.

    One that shares a file has the first part of its own name.
    """
    from keras_mimo import combiners

    public = [getattr(combiners, name) for name in combiners.__all__]
    return {
        _name(cls): cls
        for cls in public
        if inspect.isclass(cls)
        and cls.call is not BalancedGradientCombiner.call
        and not _needs_arguments(cls)
    }


def _name(cls):
    name = cls.__name__.removesuffix("Combiner").lower()
    file = cls.__module__.rsplit(".", 1)[-1]
    return file if file.replace("_", "") == name else name


def _needs_arguments(cls):
    parameters = inspect.signature(cls).parameters.values()
    return any(
        p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        for p in parameters
    )
