import keras
from keras import ops

from keras_mimo.utils.arguments import check_units
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class PrototypeClassifier(keras.layers.Layer):
    """Logits that are minus the distances to a prototype of each class.

    `logit_k = -||f - c_k||` with the prototype `c_k`, the mean of the features
    of class `k`. Prototypes are not trained: they are zeros until
    `update_prototypes()` is called, as
    `keras_mimo.callbacks.UpdatePrototypes` does.

    (`ClassPrototypes` makes its own from the weights of a classifier.)

    Args:
        units: Positive integer, the number of classes.
        **kwargs: Arguments of `keras.layers.Layer`. Its dtype defaults to
            `float32`, whatever the global policy: squares would overflow in
            `float16`.

    Call arguments:
        inputs: Features of shape `(batch, features)`.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        TypeError: If `units` is no integer.
        ValueError: If it is not positive.

    Example:

    ```python
    model = keras_mimo.add_unimodal_heads(
        model,
        {"image": "image_pool", "text": "text_pool"},
        head=lambda modality: keras_mimo.layers.PrototypeClassifier(10),
    )
    ```

    Reference:

    - [PMR: Prototypical Modal Rebalance for Multimodal Learning](
        https://arxiv.org/abs/2211.07089)
    """

    def __init__(self, units, **kwargs):
        super().__init__(**{"dtype": at_least_float32(), **kwargs})
        self.units = check_units("units", units)

    def build(self, input_shape):
        self.prototypes = self.add_weight(
            name="prototypes",
            shape=(self.units, input_shape[-1]),
            initializer="zeros",
            trainable=False,
        )
        self.known = self.add_weight(
            name="known",
            shape=(self.units,),
            initializer="zeros",
            trainable=False,
        )

    def call(self, inputs):
        difference = inputs[:, None, :] - ops.stop_gradient(self.prototypes)
        squares = ops.sum(ops.square(difference), axis=-1)
        apart = squares > 0
        # The root has no finite gradient at 0.
        roots = ops.sqrt(ops.where(apart, squares, 1.0))
        return -ops.where(apart, roots, 0.0)

    def update_prototypes(self, means, counts, momentum=0.0):
        """Moves the prototypes to class means.

        Args:
            means: Array of shape `(units, features)`.
            counts: Array of shape `(units,)`, of how many samples each is the
                mean. A class without keeps its prototype.
            momentum: Float from 0 to below 1, the share of the prototypes that
                were. The first mean of a class is its prototype.
                Defaults to `0.0`.
        """
        dtype = self.variable_dtype
        means, counts = (ops.cast(x, dtype) for x in (means, counts))
        before = ops.convert_to_tensor(self.prototypes)
        known = ops.convert_to_tensor(self.known)
        kept = ops.where(counts > 0, momentum * known, 1.0)[:, None]
        # Not `kept * before` alone: the mean of no samples is not a number.
        given = ops.where(counts[:, None] > 0, means, before)
        self.prototypes.assign(kept * before + (1.0 - kept) * given)
        self.known.assign(ops.maximum(known, ops.cast(counts > 0, dtype)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
