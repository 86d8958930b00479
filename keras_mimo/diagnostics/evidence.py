"""How sure figures are, and what luck alone would give."""

import math

import numpy as np

from keras_mimo.fusion.scales import sigmoid

# Standard errors that a finding must be beyond. A report asks about five
# questions for each modality: at 2 errors one report in three of a sound model
# of three modalities would find something, at 3 errors one in fifty.
ERRORS = 3


class Estimate:
    """A mean over samples with its standard error.

    The error is that of independent samples, two more of which differ from the
    mean as much as any does: a difference that is the same in a handful of
    samples is not certain.

    Args:
        values: Array of shape `(samples,)`.
        weights: Array of shape `(samples,)`, of which some are more than 0.
    """

    def __init__(self, values, weights):
        weights = weights / weights.sum()
        self.mean = float(weights @ values)
        count = 1 / np.sum(weights**2)
        counted = np.abs(values[weights > 0] - self.mean)
        most = max(counted.max(), np.abs(values[weights > 0]).max())
        squares = np.sum((weights * (values - self.mean)) ** 2)
        squares += 2 * (most / count) ** 2
        # Divided by one less than the count, as variances are.
        squares *= (count / (count + 2)) ** 2 * (count + 2) / (count + 1)
        self.error = math.sqrt(squares)

    def exceeds(self, least):
        """Whether it is as large as that, and beyond doubt more than 0."""
        return self.mean > max(least, ERRORS * self.error)

    def below(self, bound):
        """Whether it is smaller than a bound beyond doubt."""
        return self.mean + ERRORS * self.error < bound


def luck(task, z, targets, weights):
    """What predictions would be worth that have nothing to do with the labels.

    Of classes: as if the same ones were predicted, as often, for samples at
    random, so that one that is always predicted is luck, however frequent.
    Of values: if all predictions were the mean.

    Args:
        task: As in `scores()`, like all that follow.
        z: As there.
        targets: As there.
        weights: As there.

    Returns:
        Array of shape `(samples,)`.
    """
    weights = weights / weights.sum()
    if task == "regression":
        return -np.mean((targets - weights @ targets) ** 2, axis=1)
    if task == "multilabel":
        share = weights @ (targets > 0.5)
        return np.mean(np.where(z > 0, share, 1 - share), axis=1)
    first = z == z.max(axis=1, keepdims=True)
    share = np.bincount(
        targets.argmax(axis=1), weights, minlength=targets.shape[1]
    )
    return first @ share / first.sum(axis=1)


def confidence(task, z):
    """How sure predictions of classes or labels are of being right.

    Args:
        task: `"classification"` or `"multilabel"`.
        z: Array of shape `(samples, width)`, logits.

    Returns:
        Array of shape `(samples,)`.
    """
    z = z.astype("float64")
    if task == "multilabel":
        return np.mean(sigmoid(np.abs(z)), axis=1)
    return 1 / np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)
