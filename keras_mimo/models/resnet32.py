import keras
from keras import ops

from keras_mimo.layers.cosine_classifier import CosineClassifier
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units


def resnet32(
    num_classes, input_shape=(32, 32, 3), classifier="cosine", scale=30.0
):
    """The ResNet-32 that long-tail papers train on CIFAR.

    Three stages of five blocks with 16, 32 and 64 filters, then the mean over
    the image and a classifier. Shortcuts have no parameters (option A of the
    paper): where a stage begins they keep every second pixel and add channels
    of zeros. Channels are last. The model has no augmentation and no weight
    decay: they belong to the data and to the optimizer.

    Args:
        num_classes: Positive integer.
        input_shape: Tuple `(height, width, channels)`.
            Defaults to `(32, 32, 3)`.
        classifier: `"cosine"` for `keras_mimo.layers.CosineClassifier`, or
            `"dense"` for `keras.layers.Dense`. Defaults to `"cosine"`.
        scale: Positive float, the scale of the cosine classifier; `1.0` for
            `keras_mimo.losses.LDAM`. Not used by `"dense"`. Defaults to `30.0`.

    Returns:
        `keras.Model` from images to logits. Its last layer is called
        `"classifier"`, and `"features"` is the layer before. Logits are
        `float32`, whatever the policy.

    Raises:
        TypeError: If `num_classes` is no integer or `scale` no number.
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_mimo.models.resnet32(10)
    model.compile("sgd", loss=keras_mimo.losses.LogitAdjusted(counts))

    # The same, to be trained by a combiner.
    balanced = keras_mimo.BalancedModel(model.inputs, model.outputs)
    ```

    Reference:

    - [He et al., 2016, Deep Residual Learning for Image Recognition](
        https://arxiv.org/abs/1512.03385)
    """
    num_classes = check_units("num_classes", num_classes)
    if len(input_shape) != 3:
        raise ValueError(
            "`input_shape` must be (height, width, channels). "
            f"Received: input_shape={input_shape!r}"
        )
    if classifier not in ("cosine", "dense"):
        raise ValueError(
            '`classifier` must be "cosine" or "dense". '
            f"Received: classifier={classifier!r}"
        )
    scale = check_number("scale", scale)

    inputs = keras.Input(input_shape)
    x = keras.layers.ReLU()(_convolve(inputs, 16))
    for filters in (16, 32, 64):
        for _ in range(5):
            x = _block(x, filters)
    x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", name="features"
    )(x)
    options = {"name": "classifier", "dtype": "float32"}
    if classifier == "cosine":
        last = CosineClassifier(num_classes, scale, **options)
    else:
        last = keras.layers.Dense(num_classes, **options)
    return keras.Model(inputs, last(x), name="resnet32")


def _block(x, filters):
    stride = 1 if x.shape[-1] == filters else 2
    shortcut = x
    if stride == 2:
        added = filters - x.shape[-1]
        shortcut = ops.pad(
            x[:, ::2, ::2, :],
            ((0, 0), (0, 0), (0, 0), (added // 2, added // 2)),
        )
    x = keras.layers.ReLU()(_convolve(x, filters, stride))
    return keras.layers.ReLU()(_convolve(x, filters) + shortcut)


def _convolve(x, filters, stride=1):
    padding = "same"
    if stride == 2:
        # With "same" Keras pads one side only, and the pixels in the middle of
        # the kernel would not be those that the shortcut keeps.
        x = keras.layers.ZeroPadding2D(1, data_format="channels_last")(x)
        padding = "valid"
    x = keras.layers.Conv2D(
        filters,
        3,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        data_format="channels_last",
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
