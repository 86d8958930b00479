class MissingEntryError(KeyError, ValueError):
    """A name or an entry that is not there.

    Keras raises a `KeyError` for some of these and a `ValueError` for others,
    by the form in which they are given: what handles its error handles this.
    """

    # As it is, not in quotes as that of a `KeyError`.
    __str__ = ValueError.__str__


class MisfitError(ValueError, TypeError):
    """Labels, predictions or weights that a loss can't take.

    Backends raise a `ValueError` for some of them and a `TypeError` for others,
    and what handles either handles this.
    """
