from keras_mimo.solvers import ops
from keras_mimo.solvers.block_pivoting import block_pivoting
from keras_mimo.solvers.inverse import inverse_in_numpy


def nonnegative_qp(matrix, vector):
    """Minimises `z' Q z / 2 - b' z` over `z >= 0`, exactly, for many `b`.

    An active-set method (Lawson and Hanson) from `z = 0`: minimise on the
    passive indices, step as far as the bounds allow, drop what blocks; at a
    minimum let every index enter whose multiplier has the wrong sign. All the
    problems advance together, in one loop that compiles on every backend.
    Entering many at once keeps the descent strict: the step `p` has
    `residual' p > 0`, so one entering index at least moves off its bound.

    Where it stops, `|Q z - b|` on the support and `max(b - Q z, 0)` off it are
    at most `2 * K * eps * (|b| + |Q| z)`, which is rounding. Where `Q` is
    singular the minimiser is not unique, one of modest size is returned, and a
    badly conditioned support can leave some tens of that off it.

    Args:
        matrix: Tensor of shape `(K, K)`, `float32` or `float64`, positive
            semi-definite up to rounding, with a diagonal of about 1.
        vector: Tensor of shape `(B, K)`. Outside of the range of `matrix` the
            minimum may be at infinity; the answer is then far out, about
            `1 / eps`, in the direction of it.

    Returns:
        Tensor of shape `(B, K)`, never negative.
    """
    return solver(matrix)(vector)


def solver(matrix):
    """`nonnegative_qp` of one matrix, for many vectors one after the other.

    The function takes the vectors and, optionally, a guess at the passive
    indices.
    """
    if inverse_in_numpy(matrix) is None:
        return _general(matrix)

    def solve(vector, guess=None):
        values = block_pivoting(matrix, vector, guess)
        return _general(matrix)(vector, guess) if values is None else values

    return solve


def _general(matrix):
    identity = ops.eye(matrix.shape[-1], dtype=matrix.dtype)
    regular = _positive_definite(matrix, identity)
    equal = _equal(matrix)

    def solve(vector, guess=None):
        return _solve(matrix, regular, identity, equal, vector, guess)

    return solve


def _solve(matrix, regular, identity, equal, vector, guess):
    count = matrix.shape[-1]
    epsilon = _epsilon(matrix)
    tiny = float(ops.finfo(matrix.dtype).tiny)
    sizes = abs(matrix)
    lengths = abs(vector)
    minimize_on = _minimizer(matrix, regular, identity, vector)
    distinct = _distinct(equal, vector)
    start = vector > 0
    if guess is not None:
        start = ops.where(ops.any(guess), guess, start)

    def step(values, passive, minimum, running):
        target = minimize_on(passive)
        blocking = passive & (target <= 0)
        at_minimum = ~ops.any(blocking, axis=-1, keepdims=True)

        # How far towards the target each bound is. A gap of 0 is at it.
        gap = values - target
        fraction = values / ops.maximum(gap, tiny)
        fraction = ops.where(blocking, fraction, 1.0)
        length = ops.min(fraction, axis=-1, keepdims=True)
        kept = passive & ~(blocking & (fraction <= length))
        part_way = ops.relu(values - length * gap)
        part_way = part_way * ops.cast(kept, values.dtype)
        values = ops.where(at_minimum, target, part_way)

        residual = vector - _product(matrix, values)
        scale = lengths + _product(sizes, values)
        entering = distinct & ~passive & (residual > count * epsilon * scale)
        # Back at the minimum of before: all that entered was rounding.
        moved = ops.any(passive != minimum, axis=-1, keepdims=True)
        entering = entering & moved & at_minimum
        running = ops.any(entering | ~at_minimum)
        minimum = (at_minimum & passive) | (~at_minimum & minimum)
        # At a minimum nothing blocks, and all are kept.
        passive = kept | entering
        return values, passive, minimum, running

    values, _, _, _ = ops.while_loop(
        lambda values, passive, minimum, running: running,
        step,
        (
            ops.zeros_like(vector),
            distinct & start,
            ops.ones_like(vector, dtype="bool"),
            ops.convert_to_tensor(True),
        ),
        maximum_iterations=4 * count + 8,
    )
    return values


def _equal(matrix):
    difference = abs(matrix[:, :, None] - matrix[:, None, :])
    return ops.max(difference, axis=0) <= 4 * _epsilon(matrix)


def _distinct(equal, vector):
    """Which indices to use: of equal columns only the one that gains most.

    The others can't lower the minimum, and a support with equal columns is
    singular: XLA solves such a system of TensorFlow's to two digits only.
    """
    count = equal.shape[-1]
    mine, other = vector[:, :, None], vector[:, None, :]
    earlier = ops.tri(count, k=-1) > 0
    better = (other > mine) | ((other == mine) & earlier)
    return ~ops.any(equal & better, axis=-1)


def _minimizer(matrix, regular, identity, vector):
    """Function from passive indices to the minimisers, 0 elsewhere."""

    def minimize_on(passive):
        pairs = passive[:, :, None] & passive[:, None, :]
        system = ops.where(pairs, regular, identity)
        mask = ops.cast(passive, vector.dtype)

        def solve(right):
            return ops.solve(system, (mask * right)[:, :, None])[:, :, 0]

        rough = solve(vector)
        # One refinement takes what was added to the diagonal back out.
        solution = rough + solve(vector - _product(matrix, rough))
        return solution

    return minimize_on


def _positive_definite(matrix, identity):
    """Adds to the diagonal what makes every part of the matrix regular.

    TensorFlow and PyTorch raise on a singular system, and a rounded Gramian
    need not even be semi-definite. No part of a matrix has a smaller eigenvalue
    than the whole.
    """
    finite = ops.all(ops.isfinite(matrix))
    matrix = ops.where(finite, matrix, 0.0)
    eigenvalues, _ = ops.eigh(matrix)
    jitter = 4 * matrix.shape[-1] * _epsilon(matrix)
    return matrix + (jitter + 2 * ops.relu(-eigenvalues[0])) * identity


def _product(matrix, vectors):
    # No matmul: accelerators round the float32 inputs of theirs.
    return ops.sum(matrix * vectors[:, None, :], axis=-1)


def _epsilon(x):
    return float(ops.finfo(x.dtype).eps)
