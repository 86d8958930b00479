import numpy as np

from keras_mimo.fusion.scales import LOSSES
from keras_mimo.fusion.scales import sigmoid

_BINS = 15


def scores(task, z, targets, weights):
    """How good predictions are.

    Args:
        task: A key of `LOSSES`.
        z: Array of shape `(samples, width)`: logits, or values.
        targets: Array of the same shape.
        weights: Array of shape `(samples,)` that sums to 1.

    Returns:
        Dict of floats: `"log_loss"`, `"accuracy"` and `"calibration_error"`,
        or `"mean_squared_error"` for a regression.
    """
    z = z.astype("float64")
    losses, _ = LOSSES[task](z, targets)
    loss = float(weights @ losses)
    if task == "regression":
        return {"mean_squared_error": loss}
    if task == "classification":
        exponentials = np.exp(z - z.max(axis=1, keepdims=True))
        confidence = exponentials.max(axis=1) / exponentials.sum(axis=1)
        hits = worth(task, z, targets)
    else:
        confidence = sigmoid(z).ravel()
        hits = targets.ravel()
    accuracy = weights @ worth(task, z, targets)
    weights = np.repeat(weights, len(hits) // len(z)) * len(z) / len(hits)
    return {
        "log_loss": loss,
        "accuracy": float(accuracy),
        "calibration_error": calibration_error(confidence, hits, weights),
    }


def worth(task, z, targets):
    """What each prediction is worth: the larger, the better.

    Args:
        task: As in `scores()`, like all that follow.
        z: As there.
        targets: As there.

    Returns:
        Array of shape `(samples,)`, of which the mean is the accuracy, or minus
        the mean squared error. Classes that share the first place share the
        hit: of logits that are all zeros, it is one part in as many as there
        are classes.
    """
    if task == "regression":
        return -LOSSES[task](z.astype("float64"), targets)[0]
    if task == "multilabel":
        return np.mean((z > 0) == (targets > 0.5), axis=1)
    first = z == z.max(axis=1, keepdims=True)
    right = first[np.arange(len(z)), targets.argmax(axis=1)]
    return right / first.sum(axis=1)


def calibration_error(confidence, hits, weights):
    """The expected calibration error, over 15 bins of equal width.

    Args:
        confidence: Array of probabilities, of shape `(n,)`.
        hits: Array of how often, from 0 to 1, what was predicted came true.
        weights: Array that sums to 1.

    Returns:
        Float.
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights * (confidence - hits), minlength=_BINS)
    return float(np.abs(gaps).sum())
