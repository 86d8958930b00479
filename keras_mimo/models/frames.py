import keras
from keras import ops

from keras_mimo.utils.arguments import check_units


def frames(encoder, count, name=None):
    """An encoder of clips: the mean of what one of pictures says of each frame.

    All frames of a batch go through the encoder at once. Where it ends in a
    mean over the picture, as `keras_mimo.models.ResNet18` does, this is the
    mean over frames and pixels of the papers.

    Args:
        encoder: Functional or sequential Keras model with one input of known
            shape and one output of shape `(batch, features)`. It keeps its
            weights.
        count: Positive integer, the frames of each clip.
        name: Optional name of the model.

    Returns:
        `keras.Model` from clips `(batch, count, height, width, channels)` to
        features `(batch, features)`.

    Raises:
        TypeError: If `encoder` is no model, or `count` no integer.
        ValueError: If `count` is not positive, or the encoder has several
            inputs, or an input or output of another shape.

    Example:

    ```python
    video = keras_mimo.models.frames(
        keras_mimo.models.ResNet18((224, 224)), count=3
    )
    ```
    """
    count = check_units("count", count)
    if not isinstance(encoder, keras.Model):
        raise TypeError(
            "`encoder` must be a Keras model. "
            f"Received: encoder={encoder} of type {type(encoder)}"
        )
    shape = getattr(encoder, "input_shape", None)
    outputs = getattr(encoder, "output_shape", None)
    if not _is_known(shape) or not _is_known(outputs) or len(outputs) != 2:
        raise ValueError(
            "`encoder` must have one input of known shape and one output of "
            "shape (batch, features). "
            f"Received: encoder with inputs {shape} and outputs {outputs}"
        )
    inputs = keras.Input((count, *shape[1:]), dtype=encoder.inputs[0].dtype)
    x = encoder(ops.reshape(inputs, (-1, *shape[1:])))
    x = ops.mean(ops.reshape(x, (-1, count, outputs[1])), axis=1)
    return keras.Model(inputs, x, name=name or f"{encoder.name}_frames")


def _is_known(shape):
    """Whether it is that of one tensor, known but for the batch."""
    return (
        isinstance(shape, tuple)
        and len(shape) > 1
        and all(isinstance(size, int) for size in shape[1:])
    )
