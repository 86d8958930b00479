import itertools
import math

import keras
from keras import ops
from keras import tree

from keras_mimo.modulations.modulation import Modulation
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.structures import in_order_of


@keras.saving.register_keras_serializable(package="keras_mimo")
class AGM(Modulation):
    """Adaptive gradient modulation, for any fusion.

    The fused logits `F` are taken apart into Shapley parts `phi_m`, over inputs
    of which some are zeros: for two modalities

        phi_a = (F(a, v) - F(0, v) + F(a, 0)) / 2,

    and `F = sum_m phi_m` (no inputs count as 0). With `c_m` the cross-entropy
    of part `m`,

        r_m = exp(M / (M - 1) * (mean(c) - c_m)),
        k_m = exp(alpha * min(tau_m - r_m, cap)),

    `tau_m` being as `r_m`, of the means of all `c` so far: a part that is
    further ahead than it used to be is slowed. The factor scales the gradient
    at `phi_m`, that is of the fused loss; other losses are left alone.

    A step takes `2^M - 2` more forward passes: two for two modalities. Layers
    keep no statistics of the inputs with zeros.

    Args:
        alpha: Positive float. Defaults to `1.5`; the paper takes from 1.5 to 6.
        cap: Positive float, or `None`: 10 for two modalities and 7 for more, as
            in the released code. Defaults to `None`.
        start: As in `Modulation`.
        stop: As in `Modulation`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    model = keras_mimo.intermediate_fusion(encoders, num_classes=7)
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        modulation=keras_mimo.modulations.AGM(),
    )
    ```

    Reference:

    - [Li et al., 2023, Boosting Multi-modal Model Performance with Adaptive
      Gradient Modulation](https://arxiv.org/abs/2308.07686)
    """

    # Factors act where the parts meet.
    on_encoders = False

    def __init__(self, alpha=1.5, cap=None, start=0, stop=None, **kwargs):
        super().__init__(start, stop, **kwargs)
        self.alpha = check_number("alpha", alpha)
        self.cap = None if cap is None else check_number("cap", cap)

    def build(self, modalities, encoders=None):
        super().build(modalities, encoders)
        self.means = self.add_weight(
            shape=(len(self.modalities),),
            initializer="zeros",
            trainable=False,
            name="means",
        )
        self.steps = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="steps"
        )

    def outputs(self, model, x, y_pred):
        values = {frozenset(self.modalities): y_pred["fused"]}
        for size in range(1, len(self.modalities)):
            for kept in itertools.combinations(self.modalities, size):
                given = _with_zeros(model, x, kept)
                values[frozenset(kept)] = model.outputs_of(given)["fused"]
        return {m: self._shapley(m, values) for m in self.modalities}

    def _shapley(self, modality, values):
        count = len(self.modalities)
        total = 0.0
        for subset, value in values.items():
            size = len(subset)
            if modality in subset:
                weight = math.factorial(size - 1) * math.factorial(count - size)
            else:
                weight = -math.factorial(size) * math.factorial(
                    count - size - 1
                )
            total = total + value * (weight / math.factorial(count))
        return total

    def call(self, scores, losses, training=True):
        steps = self.steps + 1.0
        means = self.means + (losses - self.means) / steps
        self.steps.assign(steps)
        self.means.assign(means)
        cap = self.cap or (10.0 if len(self.modalities) == 2 else 7.0)
        change = self._ahead(means) - self._ahead(losses)
        return ops.exp(self.alpha * ops.minimum(change, cap))

    def _ahead(self, losses):
        count = len(self.modalities)
        return ops.exp(count / (count - 1) * (ops.mean(losses) - losses))

    def modulate_outputs(self, outputs, factors, y_pred):
        modulated = ops.stop_gradient(y_pred["fused"])
        for m, modality in enumerate(self.modalities):
            part = outputs[modality]
            moving = part - ops.stop_gradient(part)
            modulated = modulated + moving * ops.cast(factors[m], part.dtype)
        return {**y_pred, "fused": modulated}

    def get_config(self):
        config = super().get_config()
        config.pop("scale")
        return {**config, "alpha": self.alpha, "cap": self.cap}


def _with_zeros(model, x, kept):
    wanted = set().union(*(model.modality_inputs[m] for m in kept))
    x = in_order_of(model.input, x)
    leaves = [
        ops.convert_to_tensor(leaf)
        if tensor.name in wanted
        else ops.zeros_like(leaf)
        for tensor, leaf in zip(
            tree.flatten(model.input), tree.flatten(x), strict=True
        )
    ]
    return tree.pack_sequence_as(x, leaves)
