import keras
from keras import ops

from keras_mimo.layers.class_prototypes import ClassPrototypes
from keras_mimo.layers.unit_projection import UnitProjection
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class ContrastiveHead(keras.layers.Layer):
    """Logits, and what `keras_mimo.losses.BalancedContrastive` needs.

    The features of every view are projected by a network with one hidden layer
    and scaled to length 1; a `ClassPrototypes` layer does the same to the
    classifier's weights. The classifier belongs to this layer, so that saving,
    loading and cloning a model keep the two together.

    Args:
        classifier: `CosineClassifier`, or another layer that makes logits with
            a `kernel` of shape `(features, C)`, such as `keras.layers.Dense`.
        units: Positive integer `D`, the dimension in which samples are
            contrasted. Defaults to `128`.
        hidden_units: Positive integer, the width of both hidden layers, or
            `None` for that of the features. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`. Its dtype defaults to
            `float32`, whatever the global policy: cosines that are divided by a
            small temperature must not be rounded.

    Call arguments:
        inputs: Features of shape `(batch, features)`, or
            `(batch, views, features)` for several views of each sample.

    Returns:
        Dict of `"logits"`, of shape `(batch, C)`, for the first view, and
        `"contrast"`, of shape `(batch, D + C)` or `(batch, views, D + C)`: the
        unit features of each view, then their cosines with the prototypes.

    Raises:
        TypeError: If `classifier` is no layer, or a number no integer.
        ValueError: If a number is not positive, the inputs have another rank,
            or the classifier has no `kernel` of that shape.

    Example:

    ```python
    features = keras.ops.stack([encoder(x1), encoder(x2)], axis=1)
    classifier = keras_mimo.layers.CosineClassifier(10)
    outputs = keras_mimo.layers.ContrastiveHead(classifier)(features)
    model = keras.Model([x1, x2], outputs)
    ```

    Reference:

    - [Zhu et al., 2022, Balanced Contrastive Learning for Long-Tailed Visual
      Recognition](https://arxiv.org/abs/2207.09052)
    """

    def __init__(self, classifier, units=128, hidden_units=None, **kwargs):
        super().__init__(**{"dtype": at_least_float32(), **kwargs})
        if not isinstance(classifier, keras.layers.Layer):
            raise TypeError(
                "`classifier` must be a Keras layer. "
                f"Received: classifier={classifier!r} of type "
                f"{type(classifier)}"
            )
        self.classifier = classifier
        self.projection = UnitProjection(
            units, hidden_units, dtype=self.dtype_policy, name="projection"
        )
        self.prototypes = ClassPrototypes(
            units, hidden_units, dtype=self.dtype_policy, name="prototypes"
        )
        self.units = self.projection.units
        self.hidden_units = self.projection.hidden_units

    def build(self, input_shape):
        if len(input_shape) not in (2, 3):
            raise ValueError(
                "The inputs must be of shape (batch, features) or "
                "(batch, views, features). "
                f"Received: input_shape={tuple(input_shape)}"
            )
        features = input_shape[-1]
        if not self.classifier.built:
            self.classifier.build((input_shape[0], features))
        kernel = getattr(self.classifier, "kernel", None)
        shape = () if kernel is None else tuple(kernel.shape)
        if len(shape) != 2 or shape[0] != features:
            raise ValueError(
                "`classifier` must have a `kernel` of shape "
                f"({features}, classes). Received: classifier="
                f"{self.classifier!r} with a kernel of shape {shape}"
            )
        self.projection.build(input_shape)
        self.prototypes.build((shape[1], features))

    def call(self, inputs):
        first = inputs if len(inputs.shape) == 2 else inputs[:, 0]
        projected = self.projection(inputs)
        prototypes = self.prototypes(ops.transpose(self.classifier.kernel))
        cosines = ops.matmul(projected, ops.transpose(prototypes))
        return {
            "logits": self.classifier(first),
            "contrast": ops.concatenate([projected, cosines], axis=-1),
        }

    def get_config(self):
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "units": self.units,
            "hidden_units": self.hidden_units,
        }

    @classmethod
    def from_config(cls, config):
        classifier = keras.saving.deserialize_keras_object(config["classifier"])
        return cls(**{**config, "classifier": classifier})
