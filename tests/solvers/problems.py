"""Rows that the solvers and combiners built on a Gramian are tested with."""

import numpy as np


def width(count):
    """As many coordinates as make independent rows."""
    return 16 if count <= 16 else 2 * count


def plain(rng, count):
    return rng.normal(size=(count, width(count)))


def correlated(rng, count):
    return plain(rng, count) + 3 * rng.normal(size=width(count))


def opposing(rng, count):
    """Two bundles at cosines of about 1e-2 to 1e-6 from -1."""
    sides = np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]
    distance = 10.0 ** rng.uniform(-6, -2)
    noise = np.sqrt(distance) * plain(rng, count)
    return sides * rng.normal(size=width(count)) + noise


def duplicated(rng, count):
    rows = plain(rng, count)
    rows[count // 2 :] = rows[: count - count // 2]
    return rows


def rank_deficient(rng, count):
    return rng.normal(size=(count, max(1, count - 2)))


def around_zero(rng, count):
    """Rows with 0 in their convex hull: no direction improves them all."""
    rows = plain(rng, count)
    return rows - np.mean(rows, axis=0)


def uneven(rng, count):
    """Rows with 0 in their convex hull, off its centre."""
    rows = plain(rng, count)
    shares = rng.uniform(0.2, 1, size=(count, 1))
    return rows - np.sum(shares * rows, axis=0) / np.sum(shares)


def opposed(rng, count):
    """Pairs of opposite rows, one row alone if their number is odd."""
    rows = plain(rng, count)
    pairs = count // 2
    rows[1 : 2 * pairs : 2] = -rows[: 2 * pairs : 2]
    return rows


INDEPENDENT = (plain, correlated, opposing)
FAMILIES = (*INDEPENDENT, duplicated, rank_deficient, around_zero)
# With 0 in the convex hull of all rows, or of as many as make pairs.
STATIONARY = (around_zero, uneven, opposed)


def scaled(rng, rows, spread):
    """Rows with lengths over `2 * spread` orders of magnitude."""
    return rows * 10.0 ** rng.uniform(-spread, spread, size=(len(rows), 1))


def gramian(rows, dtype=None):
    """Exact, then rounded once: what an accurate gradient engine gives."""
    exact = np.asarray(rows, "float64")
    return (exact @ exact.T).astype(dtype or rows.dtype)
