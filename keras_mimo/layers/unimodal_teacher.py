import contextlib

import keras
from keras import ops

from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class UnimodalTeacher(keras.layers.Layer):
    """Draws the features of a modality to those of a teacher, in training.

    It returns the features as they are, and in training adds
    `weight * mean((features - teacher(inputs))^2)` to the losses of the model,
    the mean over samples and features. The teacher is an encoder of that
    modality, trained without the others. It runs as in inference, is never
    trained by this loss, and stays frozen whatever `trainable` says; in
    inference, and in what is exported, it does not run.

    `keras_mimo.add_unimodal_teachers` puts one on each modality.

    Args:
        teacher: Keras model or layer from `inputs` to features.
        weight: Non-negative float. Defaults to `1.0`, as in
            `add_unimodal_teachers()`.

    Attributes:
        trained: Non-trainable variable, whether
            `keras_mimo.callbacks.TrainTeachers` has trained the teacher.

    Call arguments:
        features: Tensor of shape `(batch, features)`.
        inputs: What the teacher gets, such as the encoder does.
        present: Optional boolean tensor of shape `(batch,)`: the samples that
            have the modality. The others have no part in the loss.
        training: Boolean.

    Returns:
        `features`.

    Raises:
        TypeError: If `teacher` is no Keras layer, or `weight` no number.
        ValueError: If `weight` is negative, or if the teacher does not return
            features of the shape of `features`.

    Reference:

    - [On Uni-Modal Feature Learning in Supervised Multi-Modal Learning](
        https://arxiv.org/abs/2305.01233)
    """

    # What a plain model makes of it is its features.
    composite = True

    def __init__(self, teacher, weight=1.0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if not isinstance(teacher, keras.Layer):
            raise TypeError(
                "`teacher` must be a Keras model or layer. "
                f"Received: teacher={teacher} of type {type(teacher)}"
            )
        self.teacher = teacher
        self.weight = check_number("weight", weight, positive=False)
        self.supports_masking = True

    @property
    def trainable(self):
        return False

    @trainable.setter
    def trainable(self, value):
        """Does nothing: a model around it may be frozen, and not, at will."""

    def build(self, features_shape, inputs_shape, present_shape=None):
        if not self.teacher.built:
            self.teacher.build(inputs_shape)
        found = self.teacher.compute_output_shape(inputs_shape)
        if tuple(found)[1:] != tuple(features_shape)[1:]:
            raise ValueError(
                "`teacher` must return features of the shape of those that it "
                f"teaches, {tuple(features_shape)}. "
                f"Received: teacher={self.teacher}, which returns {found}"
            )
        self.trained = self.add_weight(
            name="trained", shape=(), initializer="zeros", trainable=False
        )
        # Not tracked twice. The flags of its layers stay as they are, by which
        # `unfrozen()` knows what can be trained.
        object.__setattr__(self, "_frozen", self.teacher.trainable_variables)
        self._set_frozen(True)

    def _set_frozen(self, frozen):
        for variable in self._frozen:
            variable.trainable = not frozen

    @contextlib.contextmanager
    def unfrozen(self):
        """A context in which the teacher can be trained."""
        self._set_frozen(False)
        try:
            yield self.teacher
        finally:
            self._set_frozen(True)

    def call(self, features, inputs, present=None, training=None):
        if training and self.weight:
            distance = self._distance(features, inputs, present)
            self.add_loss(self.weight * distance)
        return features

    def _distance(self, features, inputs, present):
        dtype = at_least_float32(self.dtype_policy)
        taught = ops.stop_gradient(self.teacher(inputs, training=False))
        apart = ops.cast(features, dtype) - ops.cast(taught, dtype)
        squares = ops.mean(ops.square(apart), axis=-1)
        if present is None:
            return ops.mean(squares)
        squares = ops.where(present, squares, 0.0)
        count = ops.sum(ops.cast(present, dtype))
        return ops.sum(squares) / ops.maximum(count, 1.0)

    def compute_mask(self, features, previous_mask=None):
        # That of the features, not of the inputs.
        return previous_mask

    def get_config(self):
        config = super().get_config()
        del config["trainable"]
        return {
            **config,
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "weight": self.weight,
        }

    @classmethod
    def from_config(cls, config):
        teacher = keras.saving.deserialize_keras_object(config["teacher"])
        return cls(**{**config, "teacher": teacher})
