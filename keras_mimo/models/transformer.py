import keras
from keras import ops

from keras_mimo.models.attention import attend
from keras_mimo.models.attention import check_dropout
from keras_mimo.models.attention import check_width
from keras_mimo.utils.arguments import check_units


def Transformer(
    input_shape, width=64, layers=2, heads=4, dropout=0.1, name=None
):
    """An encoder of sequences of vectors, such as aligned CMU-MOSEI.

    A dense layer, learnt positions, and layers of self-attention that normalize
    first; then the mean over the steps. Steps of nothing but zeros are padding,
    on whichever side: no step looks at them, and the mean leaves them out.

    Args:
        input_shape: Tuple `(length, channels)`, such as `(50, 300)` for the
            text of CMU-MOSEI.
        width: Positive integer, a multiple of `heads`: the width of the layers
            and of the features. Defaults to `64`.
        layers: Positive integer. Defaults to `2`.
        heads: Positive integer. Defaults to `4`.
        dropout: Float, at least 0 and below 1. Defaults to `0.1`.
        name: Optional name of the model.

    Returns:
        `keras.Model` from sequences `(batch, length, channels)` to features
        `(batch, width)`, which are zeros for a sequence of padding only.

    Raises:
        TypeError: If a size is no integer.
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_mimo.late_fusion(
        {
            "vision": keras_mimo.models.Transformer((50, 35)),
            "audio": keras_mimo.models.Transformer((50, 74)),
            "text": keras_mimo.models.Transformer((50, 300)),
        },
        num_classes=2,
    )
    ```

    Reference:

    - [Vaswani et al., 2017, Attention Is All You Need](
        https://arxiv.org/abs/1706.03762)
    - [Xiong et al., 2020, On Layer Normalization in the Transformer
      Architecture](https://arxiv.org/abs/2002.04745)
    """
    shape = tuple(input_shape)
    if len(shape) != 2:
        raise ValueError(
            "`input_shape` must be (length, channels). "
            f"Received: input_shape={input_shape!r}"
        )
    for size in shape:
        check_units("input_shape", size)
    width, heads = check_width(width, heads)
    layers = check_units("layers", layers)
    check_dropout(dropout)

    inputs = keras.Input(shape)
    present = ops.any(ops.not_equal(inputs, 0), axis=-1)
    x = keras.layers.Dense(width)(inputs)
    x = attend(x, present, layers, heads, dropout)
    return keras.Model(inputs, x, name=name or "transformer")
