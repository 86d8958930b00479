import keras

from keras_mimo.layers.unit_projection import UnitProjection


@keras.saving.register_keras_serializable(package="keras_mimo")
class ClassPrototypes(UnitProjection):
    """One unit vector per class, made from the weights of the classifier.

    A network with one hidden layer maps the weight vector of each class to a
    point of the space in which samples are contrasted, scaled to length 1. (The
    network of the paper's code also has batch normalization, here over classes
    and so left out.)

    Its dtype defaults to `float32`, whatever the global policy: the result is
    divided by a small temperature, and must not be rounded before.

    Args:
        units: Positive integer, the dimension of the prototypes.
            Defaults to `128`.
        hidden_units: Positive integer, the width of the hidden layer, or `None`
            for that of the input. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        class_weights: Tensor of shape `(C, features)`, such as
            `keras.ops.transpose(classifier.kernel)`.

    Returns:
        Tensor of shape `(C, units)` with rows of length 1.

    Raises:
        TypeError: If an argument is no integer.
        ValueError: If it is not positive.

    Example:

    ```python
    prototypes = keras_mimo.layers.ClassPrototypes(128)
    centers = prototypes(keras.ops.transpose(classifier.kernel))
    ```

    Reference:

    - [Zhu et al., 2022, Balanced Contrastive Learning for Long-Tailed Visual
      Recognition](https://arxiv.org/abs/2207.09052)
    """
