import warnings

import numpy as np

from keras_mimo.grouping.affinity import check_square


def spectral_groups(affinity, num_groups):
    """Groups of classes with a high affinity, by spectral clustering.

    Deterministic, and independent of the order of the classes. Needs
    scikit-learn.

    Args:
        affinity: Array `(C, C)`, symmetric and not negative, as from
            `class_affinity()`.
        num_groups: Integer, from 1 to C.

    Returns:
        List of `num_groups` lists of class ids, each sorted, ordered by their
        smallest class id.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If `affinity` is not square or not finite, if `num_groups`
            is out of range, or if the classes don't fall in so many groups.

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    affinity = np.asarray(affinity, dtype="float64")
    check_square("affinity", affinity)
    num_classes = len(affinity)
    check_num_groups(num_groups, num_classes)
    if num_groups == 1:
        return [list(range(num_classes))]
    if num_groups == num_classes:
        return [[class_id] for class_id in range(num_classes)]
    spectral_clustering = import_spectral_clustering()
    with warnings.catch_warnings():
        # Opposite gradients have no affinity: that is what groups are for.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        labels = spectral_clustering(
            affinity,
            n_clusters=num_groups,
            assign_labels="cluster_qr",
            # Of the first vector of the eigenvalue solver.
            random_state=0,
        )
    groups = [np.flatnonzero(labels == k).tolist() for k in range(num_groups)]
    if not all(groups):
        raise ValueError(
            "`num_groups` must not be more than the groups in which the "
            f"classes fall. Received: num_groups={num_groups}, of which "
            f"{groups.count([])} are empty"
        )
    return sorted(groups)


def check_num_groups(num_groups, num_classes):
    """Raises `ValueError` unless there are classes for so many groups."""
    if not 1 <= num_groups <= num_classes:
        raise ValueError(
            "`num_groups` must be from 1 to the number of classes. "
            f"Received: num_groups={num_groups} for {num_classes} classes"
        )


def import_spectral_clustering():
    """scikit-learn's function, or an `ImportError` that says what to do."""
    try:
        from sklearn.cluster import spectral_clustering
    except ImportError as error:
        raise ImportError(
            "Grouping classes needs scikit-learn. Install it with "
            "`pip install keras-mimo[grouping]`."
        ) from error
    return spectral_clustering
