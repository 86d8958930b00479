from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.nonnegative_qp import solver


def max_min(gramian, weights, radius, active):
    """Improves the worst inner product as far as a ball allows.

    Of all `d` with `||d - c|| <= radius * ||c||`, where `c = sum_k u_k g_k`,
    the one with the largest `min_k g_k . d` (of several, the closest to `c`).

    The smallest ball that reaches a level `t = min_k g_k . d` is a
    `nonnegative_qp`, and its radius is convex in `t`. So Newton's method from
    above reaches the given radius monotonically and, on the last support,
    quadratically. Each step is one of Dinkelbach's for the dual problem: from
    the multipliers `v` to its value at `v / sum(v)`.

    Args:
        gramian: Tensor of shape `(K, K)`, `float32` or `float64`: the inner
            products of the vectors.
        weights: Tensor of shape `(K,)`: the `u` of the centre.
        radius: Non-negative float, relative to the length of the centre.
        active: Boolean tensor of shape `(K,)`: the vectors that take part.

    Returns:
        Tensor of shape `(K,)`, with no gradient: the weights of `d`, at least
        those of the centre. 0 where not active.
    """
    matrix, lengths, positive = cosines(gramian, active)
    count = matrix.shape[-1]
    tolerance = 2 * count * float(ops.finfo(matrix.dtype).eps)

    def square(x):
        return ops.sum(x[:, None] * matrix * x[None, :])

    center = ops.where(positive, weights * lengths, 0.0)
    slopes = ops.sum(matrix * center, axis=-1)
    limit = radius * ops.sqrt(ops.relu(square(center)))
    rounding = tolerance * (ops.sum(abs(matrix * center), axis=-1) + limit)

    solve = solver(matrix)

    def step(level, multipliers, running):
        vector = ops.where(positive, level / lengths - slopes, 0.0)
        guess = multipliers[None, :] > 0
        multipliers = solve(vector[None, :], guess)[0]
        squared = square(multipliers)
        # What is left of a sum that is 0 would have half of the digits.
        visible = squared > tolerance * ops.sum(multipliers) ** 2
        reached = ops.sqrt(ops.where(visible, squared, 0.0))
        total = ops.sum(multipliers / lengths)
        # Below the optimum by rounding: above it, there need not be a ball.
        value = ops.sum(multipliers * (slopes - rounding)) + limit * reached
        value = value / ops.where(total > 0, total, 1.0)
        running = (total > 0) & (value < level)
        return ops.where(running, value, level), multipliers, running

    # The dual problem's value at each vector: none is below the optimum.
    values = ops.where(positive, lengths * (slopes + limit), 0.0)
    highest = ops.max(values)
    _, multipliers, _ = ops.while_loop(
        lambda level, multipliers, running: running,
        step,
        (
            ops.min(ops.where(active, values, highest)),
            ops.zeros_like(slopes),
            ops.convert_to_tensor(True),
        ),
        maximum_iterations=32,
    )
    reached = ops.sqrt(ops.relu(square(multipliers)))
    outside = reached > limit
    shrink = ops.where(outside, limit / ops.where(outside, reached, 1.0), 1.0)
    return (center + shrink * multipliers) / lengths
