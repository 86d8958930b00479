import keras
import numpy as np
from keras import ops


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
        vector: Tensor of shape `(B, K)`: `B` vectors in the range of `matrix`
            (outside of it the minimum may be at infinity).

    Returns:
        Tensor of shape `(B, K)`, never negative.
    """
    count = matrix.shape[-1]
    epsilon = _epsilon(matrix)
    sizes = abs(matrix)
    lengths = abs(vector)
    minimize_on = _minimizer(matrix, vector)

    def step(values, passive, minimum, running):
        target = minimize_on(passive)
        blocking = passive & (target <= 0)
        at_minimum = ~ops.any(blocking, axis=-1, keepdims=True)

        # How far towards the target each bound is. A gap of 0 is at it.
        gap = values - target
        fraction = values / ops.where(gap > 0, gap, 1.0)
        fraction = ops.where(blocking, fraction, 1.0)
        length = ops.min(fraction, axis=-1, keepdims=True)
        kept = passive & ~(blocking & (fraction <= length))
        part_way = ops.where(kept, ops.relu(values - length * gap), 0.0)
        values = ops.where(at_minimum, target, part_way)

        residual = vector - _product(matrix, values)
        scale = lengths + _product(sizes, values)
        entering = ~passive & (residual > count * epsilon * scale)
        # Back at the minimum of before: all that entered was rounding.
        moved = ops.any(passive != minimum, axis=-1, keepdims=True)
        entering = entering & moved
        running = ~ops.all(at_minimum & ~entering)
        minimum = ops.where(at_minimum, passive, minimum)
        passive = ops.where(at_minimum, passive | entering, kept)
        return values, passive, minimum, running

    values, _, _, _ = ops.while_loop(
        lambda values, passive, minimum, running: running,
        step,
        (
            ops.zeros_like(vector),
            vector > 0,
            ops.zeros_like(vector, dtype="bool"),
            ops.convert_to_tensor(True),
        ),
        maximum_iterations=4 * count + 8,
    )
    return values


def _minimizer(matrix, vector):
    """Function from passive indices to the minimisers, 0 elsewhere."""
    count = matrix.shape[-1]
    jitter = 4 * count * _epsilon(matrix)
    diagonal = ops.convert_to_tensor(np.eye(count, dtype="bool"))
    identity = ops.cast(diagonal, matrix.dtype)
    regular = matrix + jitter * identity

    def minimize_on(passive):
        pairs = passive[:, :, None] & passive[:, None, :]
        # QR and not Cholesky or LU: TensorFlow and PyTorch raise where those
        # fail, and a rounded Gramian need not be positive definite.
        q, r = ops.qr(ops.where(pairs, regular, identity))
        r = ops.where(diagonal & ~(abs(r) >= jitter), jitter, r)

        def solve(right):
            right = ops.sum(q * right[:, :, None], axis=1)
            solution = ops.solve_triangular(r, right[:, :, None])[:, :, 0]
            return ops.where(passive, solution, 0.0)

        rough = solve(ops.where(passive, vector, 0.0))
        # One refinement takes the jitter back out.
        error = vector - _product(matrix, rough)
        return rough + solve(ops.where(passive, error, 0.0))

    return minimize_on


def _product(matrix, vectors):
    # No matmul: accelerators round the float32 inputs of theirs.
    return ops.sum(matrix * vectors[:, None, :], axis=-1)


def _epsilon(x):
    return float(np.finfo(keras.backend.standardize_dtype(x.dtype)).eps)
