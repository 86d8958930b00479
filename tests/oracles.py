"""Slow and plain float64 solutions that the solvers are tested against."""

import itertools

import numpy as np

# Rows, of which tests pin what each combiner makes.
J2 = np.array([[-4.0, 1, 1], [6, 1, 1]])
J3 = np.array([[3.0, 0, 1, 0], [-2, 2, 0, 1], [-1, -3, 1, 2]])


def min_norm_point(rows):
    """Shortest vector in the convex hull, by trying every set of rows.

    Works on the rows and not on their Gramian, which has only half the digits.
    """
    rows = np.asarray(rows, dtype="float64")
    best = None
    for size in range(1, len(rows) + 1):
        for support in itertools.combinations(range(len(rows)), size):
            weights, point = _affine_min_norm(rows[list(support)])
            shorter = best is None or point @ point < best @ best
            if shorter and np.all(weights >= -1e-9):
                best = point
    return best


def _affine_min_norm(rows):
    """Shortest point of the affine hull, seen from the shortest row."""
    first = np.argmin(np.linalg.norm(rows, axis=1))
    base = rows[first]
    edges = np.delete(rows, first, axis=0) - base
    lengths = np.maximum(np.linalg.norm(edges, axis=1), 1e-300)
    shares = -np.linalg.lstsq((edges / lengths[:, None]).T, base)[0] / lengths
    weights = np.insert(shares, first, 1 - np.sum(shares))
    return weights, base + shares @ edges
