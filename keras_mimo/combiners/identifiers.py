import inspect

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.utils.identifiers import by_name
from keras_mimo.utils.identifiers import find


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
    return find("combiner", identifier, BalancedGradientCombiner, _public())


def names():
    """Sorted names by which `get()` knows the combiners."""
    return sorted(by_name(BalancedGradientCombiner, _public()))


def _public():
    from keras_mimo import combiners

    public = [getattr(combiners, name) for name in combiners.__all__]
    return [
        cls
        for cls in public
        if inspect.isclass(cls)
        and cls.call is not BalancedGradientCombiner.call
    ]
