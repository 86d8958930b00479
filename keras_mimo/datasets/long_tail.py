import math
import operator

import keras
import numpy as np

from keras_mimo.datasets.samples import Samples


def long_tail(
    x,
    y,
    imbalance_factor,
    kind="exp",
    class_order=None,
    max_count=None,
    seed=0,
):
    """Makes a balanced set long-tailed, by the rule of CIFAR-LT.

    Of `C` classes, the one of rank `c` keeps `n_max * factor^(c / (C - 1))`
    samples, without the fraction (`kind="exp"`); or the first `C // 2` classes
    keep `n_max` and the others `n_max * factor` (`kind="step"`). Which samples
    these are is drawn as in the code of the LDAM paper: on CIFAR with the same
    seed they are the same images.

    Args:
        x: Array with one entry per sample, a nested structure of such, or
            `keras_mimo.datasets.Samples`, whose `labels` are `y`.
        y: Integer labels of shape `(n,)` or `(n, 1)`.
        imbalance_factor: Float in `(0, 1]`, the size of the smallest class over
            that of the largest: 0.01 is what papers call IF 100.
        kind: `"exp"` or `"step"`. Defaults to `"exp"`.
        class_order: All class labels, the one that keeps most first. Defaults
            to `None`: ascending. Results depend much on which classes are rare.
        max_count: Integer, `n_max`. Defaults to `None`: the number of samples
            of the smallest class, which is that of any in a balanced set.
        seed: Integer, decides which samples are kept. Defaults to `0`.

    Returns:
        Tuple `(x, y)`: the samples kept, in the order in which they were. Of
        `Samples` no more is read.

    Raises:
        TypeError: If `imbalance_factor`, `max_count` or `seed` is no number.
        ValueError: If an argument is out of range, or a class has too few
            samples.

    Example:

    ```python
    (x, y), test = keras.datasets.cifar10.load_data()
    x, y = keras_mimo.datasets.long_tail(x, y, imbalance_factor=0.01)
    assert len(y) == 12406
    ```

    Reference:

    - [Cao et al., 2019, Learning Imbalanced Datasets with
      Label-Distribution-Aware Margin Loss](https://arxiv.org/abs/1906.07413)
    """
    labels = _check_labels(x, y)
    classes, available = np.unique(labels, return_counts=True)
    if max_count is None:
        max_count = available.min()
    sizes = long_tail_sizes(len(classes), imbalance_factor, max_count, kind)
    ranks = _ranks(class_order, classes)
    # The old generator, because that is what the published sets came from.
    random = np.random.RandomState(seed)
    kept = []
    for label, count in zip(classes.tolist(), available.tolist(), strict=True):
        size = sizes[ranks[label]]
        if size > count:
            raise ValueError(
                f"Class {label} has {count} samples, fewer than the {size} to "
                f"be kept. Received: max_count={max_count}"
            )
        samples = np.flatnonzero(labels == label)
        random.shuffle(samples)
        kept.append(samples[:size])
    # By class, `validation_split` would take the last classes only.
    kept = np.sort(np.concatenate(kept))
    x = keras.tree.map_structure(lambda part: _take(part, kept), x)
    return x, np.asarray(y)[kept]


def long_tail_sizes(num_classes, imbalance_factor, max_count, kind="exp"):
    """How many samples each class keeps, the largest first.

    Args:
        num_classes: Integer, at least 2.
        imbalance_factor: Float in `(0, 1]`.
        max_count: Positive integer.
        kind: `"exp"` or `"step"`. Defaults to `"exp"`.

    Returns:
        List of `num_classes` integers.

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an argument is out of range.
    """
    _check_factor(imbalance_factor)
    max_count = operator.index(max_count)
    if max_count < 1:
        raise ValueError(
            f"`max_count` must be positive. Received: max_count={max_count}"
        )
    if num_classes < 2:
        raise ValueError(
            f"There must be at least two classes. Received: {num_classes}"
        )
    if kind == "exp":
        return [
            int(max_count * imbalance_factor ** (c / (num_classes - 1)))
            for c in range(num_classes)
        ]
    if kind == "step":
        head = num_classes // 2
        tail = int(max_count * imbalance_factor)
        return [max_count] * head + [tail] * (num_classes - head)
    raise ValueError(f'`kind` must be "exp" or "step". Received: kind={kind!r}')


def _check_factor(imbalance_factor):
    try:
        valid = 0 < imbalance_factor <= 1
    except TypeError:
        raise TypeError(
            "`imbalance_factor` must be a number in (0, 1]. "
            f"Received: imbalance_factor={imbalance_factor!r}"
        ) from None
    if not valid:
        hint = ""
        if imbalance_factor > 1 and math.isfinite(imbalance_factor):
            hint = f" (did you mean 1 / {imbalance_factor}?)"
        raise ValueError(
            "`imbalance_factor` must be in (0, 1]. "
            f"Received: imbalance_factor={imbalance_factor!r}{hint}"
        )


def _check_labels(x, y):
    y = np.asarray(y)
    labels = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            "`y` must be integers of shape (n,) or (n, 1). "
            f"Received: shape {y.shape}, dtype {y.dtype}"
        )
    lengths = [_length(part) for part in keras.tree.flatten(x)]
    if set(lengths) != {len(labels)}:
        raise ValueError(
            "`x` and `y` must have as many samples. "
            f"Received: {lengths} in x, {len(labels)} in y"
        )
    return labels


def _length(part):
    # The length of `Samples` is that in batches.
    return len(part.labels if isinstance(part, Samples) else part)


def _take(part, kept):
    if isinstance(part, Samples):
        return part.subset(kept)
    return np.asarray(part)[kept]


def _ranks(class_order, classes):
    """The rank of each class, by its label."""
    order = classes.tolist() if class_order is None else list(class_order)
    if sorted(order) != classes.tolist():
        raise ValueError(
            "`class_order` must have each of the classes "
            f"{classes.tolist()} once. Received: class_order={class_order!r}"
        )
    return {label: rank for rank, label in enumerate(order)}
