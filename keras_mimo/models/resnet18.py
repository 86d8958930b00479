import keras

from keras_mimo.utils.arguments import check_units


def ResNet18(input_shape, channels=None, filters=64, name=None):
    """The ResNet-18 that papers train on pictures and spectrograms.

    That of torchvision without its last layer: the same convolutions, paddings
    and initial weights, and for three channels as many trainable parameters,
    11,176,512. It ends in the mean over the picture. Channels are last.
    Nothing is pretrained.

    Args:
        input_shape: Tuple `(height, width)`, or `(height, width, channels)`.
        channels: Positive integer: 3 for pictures in colour, 1 for spectrograms
            and grey pictures. Defaults to `None`: that of `input_shape`, or 3
            where it has none.
        filters: Positive integer, the filters of the first stage. Each of the
            three that follow has twice as many as the one before.
            Defaults to `64`.
        name: Optional name of the model.

    Returns:
        `keras.Model` from pictures `(batch, height, width, channels)` to
        features `(batch, 8 * filters)`: 512 by default.

    Raises:
        TypeError: If `channels` or `filters` is no integer.
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_mimo.late_fusion(
        {
            "image": keras_mimo.models.ResNet18((224, 224)),
            "sound": keras_mimo.models.ResNet18((257, 188), channels=1),
        },
        num_classes=6,
    )
    ```

    Reference:

    - [He et al., 2016, Deep Residual Learning for Image Recognition](
        https://arxiv.org/abs/1512.03385)
    """
    shape = _shape(input_shape, channels)
    filters = check_units("filters", filters)

    inputs = keras.Input(shape)
    x = keras.layers.ReLU()(_convolve(inputs, filters, 7, 2))
    # No value is below the zeros of the padding.
    x = keras.layers.ZeroPadding2D(1, data_format="channels_last")(x)
    x = keras.layers.MaxPooling2D(3, 2, data_format="channels_last")(x)
    for stage in range(4):
        x = _block(x, filters * 2**stage, 1 if stage == 0 else 2)
        x = _block(x, filters * 2**stage, 1)
    x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", name="features"
    )(x)
    return keras.Model(inputs, x, name=name or "resnet18")


def _shape(input_shape, channels):
    shape = tuple(input_shape)
    if len(shape) == 2:
        shape = (*shape, 3 if channels is None else channels)
    if len(shape) != 3 or channels not in (None, shape[2]):
        raise ValueError(
            "`input_shape` must be (height, width), or (height, width, "
            "channels) with the `channels` that are given. "
            f"Received: input_shape={input_shape!r}, channels={channels!r}"
        )
    check_units("channels", shape[2])
    return shape


def _block(x, filters, stride):
    shortcut = x
    if stride == 2:
        shortcut = _convolve(x, filters, 1, stride)
    x = keras.layers.ReLU()(_convolve(x, filters, 3, stride))
    x = keras.layers.Add()([_convolve(x, filters, 3), shortcut])
    return keras.layers.ReLU()(x)


def _convolve(x, filters, size, stride=1):
    if size > 1:
        # As in PyTorch: the same on both sides, which "same" of Keras is not
        # where the stride is 2.
        x = keras.layers.ZeroPadding2D(size // 2, data_format="channels_last")(
            x
        )
    x = keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        data_format="channels_last",
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
