import numpy as np


def check_class_counts(class_counts):
    """The number of training images of each class, as plain numbers.

    Args:
        class_counts: Sequence or array of non-negative numbers, one per class.

    Returns:
        List of ints or floats.

    Raises:
        TypeError: If `class_counts` is no sequence of numbers.
        ValueError: If it has fewer than two entries, one is negative or not
            finite, or all are 0.
    """
    try:
        counts = np.asarray(class_counts)
        numbers = counts.astype("float64")
    except (TypeError, ValueError):
        raise TypeError(
            "`class_counts` must be a sequence of numbers, one per class. "
            f"Received: class_counts={class_counts!r}"
        ) from None
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            "`class_counts` must have one entry per class, for at least two "
            f"classes. Received: class_counts={class_counts!r}"
        )
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError(
            "`class_counts` must be finite and not negative. "
            f"Received: class_counts={class_counts!r}"
        )
    if not numbers.any():
        raise ValueError(
            "`class_counts` must have at least one class with images. "
            f"Received: class_counts={class_counts!r}"
        )
    return counts.tolist()


def fill_empty(class_counts):
    """Counts with those of 0 raised to the smallest that is not.

    The formulas have no value at 0. So a class that the training data lacks is
    treated like the rarest class that it has.
    """
    counts = np.asarray(class_counts, "float64")
    return np.where(counts > 0, counts, counts[counts > 0].min())


def effective_number_weights(class_counts, beta):
    """`(1 - beta) / (1 - beta^n)` of each class, scaled to a mean of 1."""
    counts = fill_empty(class_counts)
    if beta == 0:
        return np.ones_like(counts)
    # `1 - beta^n` loses all digits where beta is close to 1.
    weights = -1 / np.expm1(counts * np.log(beta))
    return weights / weights.mean()
