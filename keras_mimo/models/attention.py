"""What encoders of sequences are made of."""

import keras
from keras import ops

from keras_mimo.utils.arguments import check_units


def check_width(width, heads):
    """Both as integers.

    Raises:
        ValueError: If `width` can't be shared out to as many `heads`.
    """
    width, heads = check_units("width", width), check_units("heads", heads)
    if width % heads:
        raise ValueError(
            "`width` must be a multiple of `heads`. "
            f"Received: width={width}, heads={heads}"
        )
    return width, heads


def check_dropout(dropout):
    """Raises `ValueError` for what is no rate."""
    if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise ValueError(
            "`dropout` must be a number from 0 to below 1. "
            f"Received: dropout={dropout!r}"
        )


def attend(x, present, layers, heads, dropout):
    """Features of a sequence: positions, attention, a mean over what is there.

    Made of layers and operations of Keras only, so that what uses it is read
    and exported wherever Keras is.

    Args:
        x: Tensor of shape `(batch, length, width)`.
        present: Boolean tensor of shape `(batch, length)`: the steps that are
            there.
        layers: Positive integer, how often each step looks at the others.
        heads: Positive integer, divides `width`.
        dropout: Float, the rate of all dropout.

    Returns:
        Tensor of shape `(batch, width)`, zeros where no step is there.
    """
    length, width = x.shape[1:]
    # A constant would be no part of the graph, nor would what is learnt of it.
    steps = ops.cumsum(ops.ones_like(present, dtype="int32"), axis=1) - 1
    x = x + keras.layers.Embedding(length, width, name="positions")(steps)
    x = keras.layers.Dropout(dropout)(x)
    for _ in range(layers):
        x = _block(x, present, heads, dropout)
    x = keras.layers.LayerNormalization(epsilon=1e-5)(x)
    return masked_mean(x, present)


def masked_mean(x, present):
    """The mean over the steps that are there, zeros where none is."""
    weights = ops.expand_dims(ops.cast(present, x.dtype), -1)
    count = ops.maximum(ops.sum(weights, axis=1), 1)
    return ops.sum(x * weights, axis=1) / count


def _block(x, present, heads, dropout):
    width = x.shape[-1]
    y = keras.layers.LayerNormalization(epsilon=1e-5)(x)
    attention = keras.layers.MultiHeadAttention(
        heads, width // heads, dropout=dropout
    )
    y = attention(y, y, attention_mask=ops.expand_dims(present, 1))
    x = x + keras.layers.Dropout(dropout)(y)
    y = keras.layers.LayerNormalization(epsilon=1e-5)(x)
    y = keras.layers.Dense(4 * width, activation="gelu")(y)
    y = keras.layers.Dense(width)(y)
    return x + keras.layers.Dropout(dropout)(y)
