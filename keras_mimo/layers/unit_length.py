from keras import ops


def unit_length(x, axis=-1):
    """`x` scaled to length 1 along an axis; zeros remain zeros."""
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-12))
