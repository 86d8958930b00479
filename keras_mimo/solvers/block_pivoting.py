import numpy as np

LIMIT = 10


def block_pivoting(matrix, vector, guess=None):
    """`nonnegative_qp` in NumPy, of a well-conditioned matrix.

    It solves for a guess at the passive indices, and moves all those whose sign
    is wrong to the other side: few rounds, but it may go in circles.

    Args:
        matrix: Array of shape `(K, K)`.
        vector: Array of shape `(B, K)`.
        guess: Boolean array of shape `(B, K)`, or `None`.

    Returns:
        Array of shape `(B, K)`, or `None` if it has not come to an end.
    """
    if guess is None and not (vector > 0).any():
        return np.zeros_like(vector)
    dtype = vector.dtype
    tolerance = len(matrix) * np.finfo(dtype).eps
    matrix, vector = matrix.astype("float64"), vector.astype("float64")
    passive = vector > 0
    if guess is not None and guess.any():
        passive = guess
    values = np.zeros_like(vector)
    rows = np.arange(len(vector))
    identity = np.eye(len(matrix))
    for _ in range(LIMIT):
        pairs = passive[:, :, None] & passive[:, None, :]
        system = np.where(pairs, matrix, identity)
        found = np.linalg.solve(system, (vector * passive)[:, :, None])[:, :, 0]
        entering = vector - found @ matrix > tolerance * abs(vector)
        wrong = np.where(passive, found <= 0, entering)
        values[rows] = found
        left = wrong.any(axis=-1)
        if not left.any():
            return values.astype(dtype)
        rows, vector = rows[left], vector[left]
        passive = passive[left] ^ wrong[left]
    return None
