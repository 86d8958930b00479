import inspect

import keras


def find(argument, identifier, base, public):
    """An object by its name or its configuration, as Keras' `get()` finds one.

    Args:
        argument: String, what error messages call it.
        identifier: An instance of `base`, which is returned as it is; the name
            of a class that needs no arguments (case, underscores and hyphens do
            not matter); the configuration of an instance, a dict; or `None`.
        base: The class that all are instances of.
        public: List of classes. Each has the name of its file, or, where it
            shares a file, the first part of its own name.

    Returns:
        An instance of `base`, or `None` for `None`.

    Raises:
        ValueError: If nothing has that name or configuration.
        TypeError: If `identifier` is of another type.
    """
    if isinstance(identifier, dict):
        identifier = _from_config(argument, identifier)
    if isinstance(identifier, str):
        return _by_name(argument, identifier, base, public)
    if identifier is None or isinstance(identifier, base):
        return identifier
    raise TypeError(
        f"`{argument}` must be a `{base.__name__}`, the name or the "
        "configuration of one, or None. "
        f"Received: {argument}={identifier} of type {type(identifier)}"
    )


def by_name(base, public):
    """The classes that need no arguments, by the names that `find()` knows."""
    return {
        _name(cls, base): cls for cls in public if not _needs_arguments(cls)
    }


def _from_config(argument, config):
    try:
        return keras.saving.deserialize_keras_object(config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be the configuration of a {argument} where it "
            f"is a dict. Received: {argument}={config}: {error}"
        ) from error


def _by_name(argument, identifier, base, public):
    plain = _plain(identifier)
    classes = by_name(base, public)
    for name, cls in classes.items():
        if _plain(name) in (plain, plain.removesuffix(_suffix(base))):
            return cls()
    raise ValueError(
        f"`{argument}` must be the name of a {argument} that needs no "
        f"arguments, one of {sorted(classes)}. "
        f"Received: {argument}={identifier!r}"
    )


def _plain(name):
    return name.lower().replace("_", "").replace("-", "")


def _suffix(base):
    """What the names of subclasses end in: the last word of the base's."""
    return base.__name__.removeprefix("BalancedGradient").lower()


def _name(cls, base):
    name = cls.__name__.lower().removesuffix(_suffix(base))
    file = cls.__module__.rsplit(".", 1)[-1]
    return file if _plain(file) == name else name


def _needs_arguments(cls):
    parameters = inspect.signature(cls).parameters.values()
    return any(
        p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
        for p in parameters
    )
