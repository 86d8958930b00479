import numpy as np


def class_affinity(gramian):
    """How well the gradients of two classes agree: their cosine plus one.

    Args:
        gramian: Array `(C, C)` of the inner products of class gradients.

    Returns:
        Array `(C, C)`, symmetric: 0 for opposite gradients, 2 for parallel
        ones. A class without samples or with a zero gradient has the affinity
        1, which is neutral, with every class.

    Raises:
        ValueError: If `gramian` is not square or not finite.

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    gramian = np.asarray(gramian, dtype="float64")
    check_square("gramian", gramian)
    norms = np.sqrt(np.diag(gramian))
    # A zero row stays zero whatever it is divided by.
    norms = np.where(norms > 0.0, norms, 1.0)
    cosines = gramian / norms / norms[:, None]
    return 1.0 + np.clip((cosines + cosines.T) / 2.0, -1.0, 1.0)


def check_square(argument, matrix):
    """Raises `ValueError` unless an array is a finite square matrix."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"`{argument}` must be a square matrix. "
            f"Received: {argument} of shape {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"`{argument}` must be finite. Received: {argument} with NaN or "
            "infinite entries"
        )
