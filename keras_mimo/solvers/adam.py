import math

from keras import ops

# Of the paper, and of Keras, which has a larger epsilon.
BETA_1, BETA_2 = 0.9, 0.999
EPSILON = 1e-8


def adam(slope, velocity, square, steps):
    """A step of Adam of length 1, for every entry by its own count.

    Args:
        slope: Tensor, the gradient.
        velocity: Tensor of its shape, the mean of the gradients before.
        square: The same of their squares.
        steps: The number of steps before.

    Returns:
        Tuple: the step, to be subtracted, and what the last three are then.
    """
    steps = steps + 1.0
    velocity = BETA_1 * velocity + (1 - BETA_1) * slope
    square = BETA_2 * square + (1 - BETA_2) * slope * slope
    mean = velocity / _one_minus_power(BETA_1, steps)
    size = ops.sqrt(square / _one_minus_power(BETA_2, steps)) + EPSILON
    return mean / size, velocity, square, steps


def _one_minus_power(base, exponents):
    # Of the difference float32 would keep four digits.
    return -ops.expm1(exponents * math.log(base))
