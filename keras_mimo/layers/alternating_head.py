import keras
from keras import ops

from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units
from keras_mimo.utils.dtypes import at_least_float32


@keras.saving.register_keras_serializable(package="keras_mimo")
class AlternatingHead(keras.layers.Layer):
    """One dense head for all modalities, which learns from one at a time.

    Multi-modal learning with alternating uni-modal adaptation (MLA). In step
    `t` of training, `fused` is the logits `z_m = f_m W + b` of one modality,
    `m = t mod M` in the sorted order of names: its loss trains that encoder and
    the head, and no other encoder. For the head not to forget the modalities
    before, the gradient at `W` is multiplied by a matrix `P`: by the identity
    at first, and then, with `h` the mean features of the step before,

    `P <- P - (P h) (P h)^T / (alpha + h^T P h)`,

    (recursive least squares) so that it keeps off what these features span. In
    inference the surer modalities count more, sample by sample, with `e_m` the
    entropy of `softmax(z_m)`:

    `fused = sum_m lambda_m z_m` with `lambda = softmax_m(-e_m)`.

    Called on the features of one modality, it returns `z_m`, without a gradient
    in training: `fused` alone trains, whatever combiner there is. The training
    metrics of `fused` are those of one modality after another.

    In the released code `alpha` falls from .1 to .01 in each epoch, `h` is of
    the step itself, `alpha + h^T P h` is a matrix by mistake, `P` is scaled to
    length 1, which shortens the head's steps, and entropies are taken over the
    batch. There the modalities take turns on the same batch; here each batch is
    one modality's: train for `M` times the epochs to see as much. What an
    optimizer remembers, as momentum, also moves the encoders whose turn it is
    not.

    Args:
        units: Positive integer, the width of the logits.
        alpha: Positive float. Defaults to `0.1`.
        **kwargs: Arguments of `keras.layers.Layer`. Its dtype defaults to
            `float32`, whatever the global policy.

    Attributes:
        turn: Non-trainable variable, the steps of training so far.
        projection: Non-trainable variable `P`, of shape `(features, features)`.

    Call arguments:
        features: Dict from the names of modalities to tensors of shape
            `(batch, features)`, of the same width, or one such tensor.
        training: Boolean.

    Returns:
        Tensor of shape `(batch, units)`: of a dict, `fused`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is not positive, or if features differ in width.

    Reference:

    - [Multimodal Representation Learning by Alternating Unimodal Adaptation](
        https://arxiv.org/abs/2311.10707)
    """

    # In inference, `call()` is made of layers and operations of Keras only.
    composite = True

    def __init__(self, units, alpha=0.1, **kwargs):
        super().__init__(**{"dtype": at_least_float32(), **kwargs})
        self.units = check_units("units", units)
        self.alpha = check_number("alpha", alpha)

    def build(self, input_shape):
        shapes = input_shape
        if not isinstance(input_shape, dict):
            shapes = {"": input_shape}
        widths = {modality: shape[-1] for modality, shape in shapes.items()}
        if len(set(widths.values())) > 1:
            raise ValueError(
                "One head for all modalities needs features of one width: end "
                "each encoder in a `Dense` layer of as many units. "
                f"Received: features of the widths {widths}"
            )
        (width,) = set(widths.values())
        self.head = keras.layers.Dense(
            self.units, dtype=self.dtype_policy, name=f"{self.name}_logits"
        )
        self.head.build((None, width))

        def state(name, shape, initializer, **options):
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                trainable=False,
                **options,
            )

        # Replicas have the same after a step: of a mean each has a part.
        self.turn = state(
            "turn", (), "zeros", dtype="int32", aggregation="only_first_replica"
        )
        self.mean = state("mean", (width,), "zeros", aggregation="mean")
        self.projection = state(
            "projection", (width, width), "identity", aggregation="mean"
        )

    def call(self, features, training=None):
        if not isinstance(features, dict):
            logits = self.head(features)
            return ops.stop_gradient(logits) if training else logits
        # Not by the order of the dict, which backends change.
        features = [features[modality] for modality in sorted(features)]
        if training:
            return self._of_turn(features)
        return _by_entropy([self.head(x) for x in features])

    def _of_turn(self, features):
        turn = ops.convert_to_tensor(self.turn)
        x = ops.stack(features, axis=1)
        x = ops.take(x, turn % len(features), axis=1)
        projection = self._projected()
        self.projection.assign(projection)
        mean = ops.mean(ops.stop_gradient(x), axis=0)
        # What is not finite is not known, and would stay in P.
        finite = ops.all(ops.isfinite(mean))
        self.mean.assign(ops.where(finite, mean, ops.zeros_like(mean)))
        self.turn.assign(turn + 1)
        kernel = ops.convert_to_tensor(self.head.kernel)
        fixed = ops.stop_gradient(kernel)
        # Zero, but for its gradient at the kernel: P times that of `x W`.
        turned = ops.matmul(ops.stop_gradient(x), projection)
        moving = ops.matmul(turned, kernel - fixed)
        return ops.matmul(x, fixed) + moving + self.head.bias

    def _projected(self):
        before = ops.convert_to_tensor(self.projection)
        mean = ops.convert_to_tensor(self.mean)
        spanned = ops.matmul(before, mean)
        # No step was before the first: its mean is 0, and P stays.
        return before - ops.outer(spanned, spanned) / (
            self.alpha + ops.sum(mean * spanned)
        )

    def compute_output_shape(self, input_shape):
        if isinstance(input_shape, dict):
            input_shape = next(iter(input_shape.values()))
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "alpha": self.alpha,
        }


def _by_entropy(logits):
    """The sum of logits by modality, in which the surer count more."""
    logits = ops.stack(logits, axis=1)
    log_p = ops.log_softmax(logits, axis=-1)
    surety = ops.sum(ops.exp(log_p) * log_p, axis=-1, keepdims=True)
    return ops.sum(ops.softmax(surety, axis=1) * logits, axis=1)
