import dataclasses

import numpy as np

from keras_mimo.grouping.affinity import class_affinity
from keras_mimo.grouping.class_gradients import class_gramian
from keras_mimo.grouping.clusters import METHODS
from keras_mimo.grouping.clusters import check_method
from keras_mimo.grouping.clusters import check_num_groups
from keras_mimo.grouping.clusters import import_cluster


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

    @property
    def cosine_inside_groups(self):
        """Float, the mean cosine of two classes of the same group.

        Over all such pairs of classes with a gradient; NaN if there is none.
        """
        return self._mean_cosine(same_group=True)

    @property
    def cosine_between_groups(self):
        """Float, the mean cosine of two classes of different groups."""
        return self._mean_cosine(same_group=False)

    def _mean_cosine(self, same_group):
        group_of_class = np.zeros(len(self.affinity), "int64")
        for index, classes in enumerate(self.groups):
            group_of_class[classes] = index
        # The cosine of a class with itself is 1, without a gradient 0.
        known = np.diag(self.affinity) > 1.5
        pairs = np.triu(known & known[:, None], 1)
        same = group_of_class == group_of_class[:, None]
        cosines = self.affinity[pairs & (same == same_group)] - 1.0
        return float(cosines.mean()) if cosines.size else float("nan")


def find_groups(
    model, dataset, num_groups, num_classes, method="ward", **options
):
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
        method: `"ward"`: groups whose gradients agree, by `ward_groups()`; or
            `"released"`: the recipe of GBG's code, `spectral_groups()`, which
            puts opposite classes in one group. Defaults to `"ward"`, not as in
            GBG.
        **options: Other arguments of `class_gramian()`.

    Returns:
        A `ClassGrouping`.

    Raises:
        ImportError: If scikit-learn is not installed.
        TypeError: As from `class_gramian()`.
        ValueError: As from `class_gramian()` and
            `spectral_groups()`; if `method` is no such name.

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    # Before the long computation, not after it.
    check_num_groups(num_groups, num_classes)
    check_method(method)
    import_cluster()
    gramian, counts = class_gramian(model, dataset, num_classes, **options)
    affinity = class_affinity(gramian)
    has_gradient = np.diag(gramian) > 0.0
    groups = _groups(METHODS[method], affinity, has_gradient, num_groups)
    return ClassGrouping(groups, affinity, counts)


def _groups(cluster, affinity, has_gradient, num_groups):
    known = np.flatnonzero(has_gradient)
    if len(known) < num_groups:
        raise ValueError(
            "`num_groups` must not be more than the classes with samples and a "
            f"gradient. Received: num_groups={num_groups} for {len(known)} of "
            f"{len(affinity)} classes"
        )
    groups = cluster(affinity[np.ix_(known, known)], num_groups)
    groups = [known[group].tolist() for group in groups]
    # Neutral to all, the others would be grouped by rounding errors.
    max(groups, key=len).extend(np.flatnonzero(~has_gradient).tolist())
    return sorted(sorted(group) for group in groups)
