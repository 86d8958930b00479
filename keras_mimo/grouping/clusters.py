import warnings

import numpy as np

from keras_mimo.grouping.affinity import check_square


def ward_groups(affinity, num_groups):
    """Groups of classes whose gradients agree, by Ward linkage.

    Starting from single classes, it joins the two groups that add least to the
    spread of the unit gradients about the mean of their group. So groups agree
    inside, and none swallows nearly all classes, as with average linkage.

    Deterministic, and independent of the order of the classes but for ties.
    Needs scikit-learn.

    Args:
        affinity: Array `(C, C)`, cosines plus one as from `class_affinity()`.
        num_groups: Integer, from 1 to C.

    Returns:
        List of `num_groups` lists of class ids, each sorted, ordered by their
        smallest class id.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If `affinity` is not square or not finite, or if
            `num_groups` is out of range.

    Reference:

    - Ward, 1963, Hierarchical Grouping to Optimize an Objective Function
    """
    return _groups(_ward_labels, affinity, num_groups)


def spectral_groups(affinity, num_groups):
    """Groups of classes by the recipe that GBG released.

    Spectral clustering with `assign_labels="cluster_qr"`, which assigns a class
    by the largest component of its spectral coordinates, whatever the sign. So
    two classes that oppose each other along an axis share a group: with more
    than two groups, gradients inside a group can agree less than those of
    random groups do. `ward_groups()` has groups that agree.

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
    return _groups(_spectral_labels, affinity, num_groups)


METHODS = {"ward": ward_groups, "released": spectral_groups}


def check_method(method):
    """Raises `ValueError` unless there is such a method."""
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {list(METHODS)}. "
            f"Received: method={method!r}"
        )


def check_num_groups(num_groups, num_classes):
    """Raises `ValueError` unless there are classes for so many groups."""
    if not 1 <= num_groups <= num_classes:
        raise ValueError(
            "`num_groups` must be from 1 to the number of classes. "
            f"Received: num_groups={num_groups} for {num_classes} classes"
        )


def import_cluster(purpose="Grouping classes"):
    """The module `sklearn.cluster`, or an error that says what to do."""
    try:
        from sklearn import cluster
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs scikit-learn. Install it with "
            "`pip install keras-mimo[grouping]`."
        ) from error
    return cluster


def _groups(labels_of, affinity, num_groups):
    affinity = np.asarray(affinity, dtype="float64")
    check_square("affinity", affinity)
    num_classes = len(affinity)
    check_num_groups(num_groups, num_classes)
    if num_groups == 1:
        return [list(range(num_classes))]
    if num_groups == num_classes:
        return [[class_id] for class_id in range(num_classes)]
    labels = labels_of(import_cluster(), affinity, num_groups)
    groups = [np.flatnonzero(labels == k).tolist() for k in range(num_groups)]
    if not all(groups):
        raise ValueError(
            "`num_groups` must not be more than the groups in which the "
            f"classes fall. Received: num_groups={num_groups}, of which "
            f"{groups.count([])} are empty"
        )
    return sorted(groups)


def _ward_labels(cluster, affinity, num_groups):
    # Points with these inner products; an estimate can have negative values.
    values, vectors = np.linalg.eigh(affinity - 1.0)
    points = vectors * np.sqrt(np.maximum(values, 0.0))
    linkage = cluster.AgglomerativeClustering(num_groups, linkage="ward")
    return linkage.fit_predict(points)


def _spectral_labels(cluster, affinity, num_groups):
    with warnings.catch_warnings():
        # Opposite gradients have no affinity: that is what groups are for.
        warnings.filterwarnings("ignore", "Graph is not fully connected")
        return cluster.spectral_clustering(
            affinity,
            n_clusters=num_groups,
            assign_labels="cluster_qr",
            # Of the first vector of the eigenvalue solver.
            random_state=0,
        )
