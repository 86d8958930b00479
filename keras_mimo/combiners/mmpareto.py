import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.length import combined_length
from keras_mimo.solvers.min_norm import min_norm


@keras.saving.register_keras_serializable(package="keras_mimo")
class MMParetoCombiner(BalancedGradientCombiner):
    """Steps along a Pareto direction where gradients conflict, never shorter.

    Made for the encoders of a multi-modal model, each of which the fused
    objective and its own uni-modal objective reach. Where no two gradients
    conflict the direction `h` is that of their sum, and elsewhere it is the
    shortest vector in their convex hull, as in `MGDACombiner`. The step is
    `scale * h`, with `h` lengthened to the sum of the gradients where it is
    shorter: the noise of a long step is what lets uni-modal losses generalise.

    With `blocks=model.encoder_variables` it is solved for each encoder, of
    which no other modality's objective knows, and what is in no block, such as
    the heads, is updated by the plain sum: the method of the paper. Its
    released code lengthens `h` in each tensor, and keeps the weights of the two
    gradients from `0.001` to `0.999`. At a Pareto-stationary point, where `h`
    is shorter than the rounding of the Gramian can tell from 0, the update
    is 0.

    Args:
        scale: Positive float (gamma in the paper). Defaults to `1.5`, as in the
            paper.

    Raises:
        ValueError: If `scale` is not positive.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.combiners.MMParetoCombiner(),
        blocks=model.encoder_variables,
    )
    ```

    Reference:

    - [MMPareto](https://arxiv.org/abs/2405.17730)
    """

    needs = "gramian"
    traits = frozenset(
        {
            "homogeneous",
            "non_conflicting",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def __init__(self, scale=1.5, **kwargs):
        super().__init__(**kwargs)
        if not scale > 0:
            raise ValueError(
                f"`scale` must be a positive number. Received: scale={scale}"
            )
        self.scale = float(scale)

    def call(self, losses, gramian=None, active=None, training=True):
        total = ops.cast(active, gramian.dtype)
        _, _, positive = cosines(gramian, active)
        conflict = ops.any(gramian < 0)
        pareto = ops.sum(total) * min_norm(gramian, positive)
        weights = ops.where(conflict, pareto, total)
        length = combined_length(weights, gramian)
        longest = combined_length(total, gramian)
        ratio = longest / ops.where(length > 0, length, 1.0)
        ratio = ops.where(length > 0, ops.maximum(ratio, 1.0), 0.0)
        return self.scale * weights * ratio

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
