import keras
import numpy as np


def split_off(x, y, fraction, seed):
    """Splits off a part in which classes are as frequent as in the whole.

    Args:
        x: Array with one entry per sample, or a nested structure of such.
        y: Integer labels of shape `(n,)`.
        fraction: Float in `(0, 1)`, the share of each class that is split off,
            rounded. One sample of each class stays at least.
        seed: Integer.

    Returns:
        Tuple `(rest, part)`, each `(x, y)`, in an order that `seed` decides.
    """
    y = np.asarray(y)
    random = np.random.default_rng(seed)
    rest, part = [], []
    for label in np.unique(y):
        samples = random.permutation(np.flatnonzero(y == label))
        size = min(round(fraction * len(samples)), len(samples) - 1)
        part.append(samples[:size])
        rest.append(samples[size:])

    def taken(samples):
        samples = random.permutation(np.concatenate(samples))
        taken_x = keras.tree.map_structure(lambda a: np.asarray(a)[samples], x)
        return taken_x, y[samples]

    return taken(rest), taken(part)
