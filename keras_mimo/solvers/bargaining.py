import numpy as np

from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines


def bargaining(gramian, active, exponent=1.0):
    """The weights `a > 0` with `G a = a ** -exponent`, elementwise.

    They minimise the strictly convex `a' G a / 2 - sum(phi(a))` with
    `phi'(a) = a ** -exponent`. Newton's method in the cosines, whatever the
    lengths of the vectors: the relative step is shortened only by how far it
    shrinks a weight, which bounds the growth of the curvature along it, so that
    every step descends, and the last ones converge quadratically.

    `b * (C b)`, with `C` the cosines and `b` the weights of the unit vectors,
    is its target up to `2 * K * eps` of the terms that it sums, and from there
    on for as long as a step halves what is missing: where vectors nearly oppose
    each other, `2 * K * eps` is far more than what the Gramian is known to.
    Where 0 is in the convex hull of the vectors there is no solution and the
    weights grow, until rounding of that size ends it: the sum is then near 0.

    Args:
        gramian: Tensor of shape `(K, K)`, `float32` or `float64`: the inner
            products of the vectors.
        active: Boolean tensor of shape `(K,)`: the vectors that take part.
        exponent: Positive float.

    Returns:
        Tensor of shape `(K,)`, with no gradient. 0 where not active, and for
        vectors of length 0.
    """
    matrix, lengths, positive = cosines(gramian, active)
    count = matrix.shape[-1]
    tolerance = 2 * count * float(ops.finfo(matrix.dtype).eps)
    diagonal = ops.convert_to_tensor(np.eye(count, dtype="bool"))
    largest = ops.max(ops.where(positive, lengths, 0.0))
    largest = ops.where(largest > 0, largest, 1.0)
    relative = ops.where(positive, lengths / largest, 1.0)
    # b = units * x, up to a power of `largest`: for one vector x = 1.
    units = relative ** ((exponent - 1) / (exponent + 1))

    def state(x):
        """`b * (C b)` over its units: pairs, target, what is missing, error."""
        pairs = x[:, None] * matrix * x[None, :]
        terms = pairs * (units[None, :] / units[:, None])
        target = ops.where(positive, x ** (1 - exponent), 0.0)
        missing = target - ops.sum(terms, axis=-1)
        size = target + ops.sum(abs(terms), axis=-1)
        error = ops.max(abs(missing) / ops.where(size > 0, size, 1.0))
        # A sum of visibly negative square comes of a Gramian with an error, and
        # there is no end to it.
        square = ops.sum(units**2 * (target - missing))
        sound = square > -4 * tolerance * ops.sum(units**2 * size)
        return pairs, target, missing, ops.where(sound, error, 0.0)

    def step(x, error, _):
        pairs, target, missing, _ = state(x)
        curvature = x**2 + exponent * target
        scale = ops.sqrt(ops.where(curvature > 0, curvature, 1.0))
        system = pairs / scale[:, None] / scale[None, :]
        system = ops.where(diagonal, 1 + 2 * tolerance, system)
        growth = _solve(system, missing * units / scale, diagonal)
        growth = growth / (scale * units)

        shrinking = ops.max(ops.relu(-growth))
        length = -ops.expm1(-ops.log1p(exponent * shrinking) / exponent)
        # At 1 a weight would be 0.
        length = ops.minimum(length, 0.9)
        length = length / ops.where(shrinking > 0, shrinking, 1.0)
        length = ops.where(shrinking > 0, length, 1.0)
        # A weight that grows without bound does so in bounded steps.
        length = ops.minimum(length, 9.0 / ops.maximum(ops.max(growth), 9.0))
        moved = x * (1 + length * growth)
        left = state(moved)[-1]
        taken = (error > tolerance) | (2 * left < error)
        x, left = ops.where(taken, moved, x), ops.where(taken, left, error)
        return x, left, taken & (left > 0)

    ones = ops.ones_like(lengths)
    error = state(ones)[-1]
    x, _, _ = ops.while_loop(
        lambda x, error, running: running,
        step,
        (ones, error, error > 0),
        maximum_iterations=200,
    )
    unscaled = x * units / relative * largest ** (-2 / (1 + exponent))
    return ops.where(positive, unscaled, 0.0)


def _solve(matrix, vector, diagonal):
    # QR and not Cholesky: TensorFlow and PyTorch raise where that fails, and a
    # rounded Gramian need not be positive definite.
    q, r = ops.qr(matrix)
    smallest = 4 * float(ops.finfo(r.dtype).eps)
    r = ops.where(diagonal & ~(abs(r) >= smallest), smallest, r)
    right = ops.sum(q * vector[:, None], axis=0)
    return ops.solve_triangular(r, right[:, None])[:, 0]
