import numpy as np

# Entries that are held in float64 at a time.
_CHUNK = 2**21


def fit_scales(parts, targets, weights, loss, start, pull, bias_pull=None):
    """Scales, none negative, of the sum that has the smallest mean loss.

    The problem is convex: `scipy.optimize` solves it (L-BFGS-B, by exact
    gradients in float64).

    Args:
        parts: Array of shape `(parts, samples, width)`.
        targets: Array of shape `(samples, width)`.
        weights: Array of shape `(samples,)` that sums to 1.
        loss: A function of `LOSSES`.
        start: Array of shape `(parts,)`, the scales to start at.
        pull: Float: half of it times the squared distance of the scales from
            `start` is added to the mean loss.
        bias_pull: Float, the same for a bias of each entry of the sum and its
            distance from 0. Defaults to `None`: no biases.

    Returns:
        Tuple of the scales, and of the biases or `None`: float64 arrays.
    """
    minimize = import_minimize()
    num_parts, _, width = parts.shape
    num_biases = 0 if bias_pull is None else width
    start = np.concatenate([start, np.zeros(num_biases)])
    pulls = np.repeat([pull, bias_pull or 0.0], [num_parts, num_biases])
    # Parts and targets of any size are equally quick to fit.
    sizes = np.sqrt(np.mean(np.square(parts, dtype="float64"), axis=(1, 2)))
    units = np.repeat(sizes.max() or 1.0, len(start))
    units[:num_parts] = 1 / np.where(sizes > 0, sizes, 1)

    def split(numbers):
        scales, biases = np.split(numbers, [num_parts])
        return scales, (biases if num_biases else None)

    def objective(numbers):
        value, gradient = mean_loss(
            parts, targets, weights, loss, *split(numbers)
        )
        distances = numbers - start
        value += 0.5 * np.sum(pulls * distances**2)
        return value, gradient + pulls * distances

    unit = objective(start)[0] or 1.0

    def scaled(point):
        value, gradient = objective(point * units)
        return value / unit, gradient * units / unit

    result = minimize(
        scaled,
        start / units,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * num_parts + [(None, None)] * num_biases,
        options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return split(result.x * units)


def mean_loss(parts, targets, weights, loss, scales, biases=None):
    """The mean loss of the scaled sum, and its gradient.

    Args:
        parts: As in `fit_scales()`, like all that follow.
        targets: As there.
        weights: As there.
        loss: As there.
        scales: Array of shape `(parts,)`.
        biases: Array of shape `(width,)`, or `None`.

    Returns:
        Tuple of a float and an array of shape `(parts,)` or
        `(parts + width,)`.
    """
    num_parts, samples, width = parts.shape
    value = 0.0
    by_scales = np.zeros(num_parts)
    by_biases = np.zeros(0 if biases is None else width)
    rows = max(1, _CHUNK // (num_parts * width))
    for first in range(0, samples, rows):
        chunk = slice(first, first + rows)
        z = parts[:, chunk].astype("float64")
        total = np.tensordot(scales, z, 1)
        if biases is not None:
            total += biases
        losses, slopes = loss(total, targets[chunk])
        value += weights[chunk] @ losses
        slopes *= weights[chunk, None]
        by_scales += np.tensordot(z, slopes, 2)
        if biases is not None:
            by_biases += slopes.sum(axis=0)
    return value, np.concatenate([by_scales, by_biases])


def softmax_crossentropy(z, targets):
    """Loss of each sample, and its gradient by `z`; like all of `LOSSES`."""
    shifted = z - z.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(sums)
    losses = -np.sum(targets * log_probabilities, axis=1)
    return losses, exponentials / sums - targets


def sigmoid_crossentropy(z, targets):
    losses = np.mean(np.logaddexp(0, z) - targets * z, axis=1)
    return losses, (sigmoid(z) - targets) / z.shape[1]


def squared_error(z, targets):
    return np.mean((z - targets) ** 2, axis=1), 2 * (z - targets) / z.shape[1]


LOSSES = {
    "classification": softmax_crossentropy,
    "multilabel": sigmoid_crossentropy,
    "regression": squared_error,
}


def sigmoid(z):
    # No overflow, whatever the sign.
    return 0.5 * (1 + np.tanh(0.5 * z))


def import_minimize():
    """SciPy's function, or an `ImportError` that says what to do."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ImportError(
            "Calibrating a fusion needs SciPy. Install it with "
            "`pip install keras-mimo[calibration]`."
        ) from error
    return minimize
