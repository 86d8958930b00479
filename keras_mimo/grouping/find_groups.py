import dataclasses

import numpy as np

from keras_mimo.grouping.affinity import class_affinity
from keras_mimo.grouping.class_gradients import class_gramian
from keras_mimo.grouping.clusters import check_num_groups
from keras_mimo.grouping.clusters import import_spectral_clustering
from keras_mimo.grouping.clusters import spectral_groups


@dataclasses.dataclass(frozen=True, eq=False)
class ClassGrouping:
    """Groups of classes, and what they come from.

    Attributes:
        groups: List of lists of class ids, ordered by their smallest.
        affinity: Array `(C, C)`, as from `class_affinity()`.
        counts: Array `(C,)`, the number of samples of each class.
    """

    groups: list[list[int]]
    affinity: np.ndarray
    counts: np.ndarray


def find_groups(model, dataset, num_groups, num_classes, **options):
    """Groups the classes whose gradients agree.

    Classes without samples, or with a zero gradient, agree with none and join
    the largest group. Needs scikit-learn.

    Example:

    ```python
    grouping = find_groups(model, (x, y), num_groups=4, num_classes=100)
    objectives = keras_mimo.objectives.ClassGroups(grouping.groups)
    ```

    Args:
        model: A built `keras.Model`.
        dataset: As in `class_gramian()`.
        num_groups: Integer, from 1 to `num_classes`.
        num_classes: Integer.
        **options: Other arguments of `class_gramian()`.

    Returns:
        A `ClassGrouping`.

    Raises:
        ImportError: If scikit-learn is not installed.
        TypeError: As from `class_gramian()`.
        ValueError: As from `class_gramian()` and `spectral_groups()`.

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    # Before the long computation, not after it.
    check_num_groups(num_groups, num_classes)
    import_spectral_clustering()
    gramian, counts = class_gramian(model, dataset, num_classes, **options)
    affinity = class_affinity(gramian)
    groups = _groups(affinity, np.diag(gramian) > 0.0, num_groups)
    return ClassGrouping(groups, affinity, counts)


def _groups(affinity, has_gradient, num_groups):
    known = np.flatnonzero(has_gradient)
    if len(known) < num_groups:
        raise ValueError(
            "`num_groups` must not be more than the classes with samples and a "
            f"gradient. Received: num_groups={num_groups} for {len(known)} of "
            f"{len(affinity)} classes"
        )
    groups = spectral_groups(affinity[np.ix_(known, known)], num_groups)
    groups = [known[group].tolist() for group in groups]
    # Neutral to all, the others would be grouped by rounding errors.
    max(groups, key=len).extend(np.flatnonzero(~has_gradient).tolist())
    return sorted(sorted(group) for group in groups)
