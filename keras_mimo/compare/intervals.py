import math

import numpy as np

_CONFIDENCE = 0.95


def paired_interval(values, others):
    """The mean of paired differences, and half of its 95 % interval."""
    gaps = np.subtract(values, others)
    if len(gaps) < 2:
        return float(gaps.mean()), math.inf
    quantile = import_stats().t.ppf((1 + _CONFIDENCE) / 2, len(gaps) - 1)
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    return float(gaps.mean()), float(quantile * error)


def import_stats():
    """SciPy's distributions, or an `ImportError` that says what to do."""
    try:
        from scipy import stats
    except ImportError as error:
        raise ImportError(
            "Intervals over seeds need SciPy. Install it with "
            "`pip install keras-mimo[compare]`."
        ) from error
    return stats
