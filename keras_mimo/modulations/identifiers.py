import inspect

from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.identifiers import by_name
from keras_mimo.utils.identifiers import find


def get(identifier):
    """Returns a modulation by its name, as `keras.optimizers.get()` does.

    Args:
        identifier: A modulation, which is returned as it is; the name of one,
            such as `"ogm"` (case does not matter); the configuration of one, a
            dict; or `None`.

    Returns:
        A `Modulation`, or `None` for `None`.

    Raises:
        ValueError: If there is no modulation of that name.
        TypeError: If `identifier` is of another type.

    Example:

    >>> keras_mimo.modulations.get("ogm")
    <OGM name=ogm, built=False>
    """
    return find("modulation", identifier, Modulation, _public())


def names():
    """Sorted names by which `get()` knows the modulations."""
    return sorted(by_name(Modulation, _public()))


def _public():
    from keras_mimo import modulations

    public = [getattr(modulations, name) for name in modulations.__all__]
    return [
        cls for cls in public if inspect.isclass(cls) and cls is not Modulation
    ]
