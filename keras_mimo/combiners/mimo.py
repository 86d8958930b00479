import math

import keras
import numpy as np

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.utils.arguments import check_numbers


@keras.saving.register_keras_serializable(package="keras_mimo")
class MIMOCombiner(BalancedGradientCombiner):
    """Descends the fused loss and a smooth maximum of the uni-modal losses.

    Joint training lets the modality that learns fastest starve the others.
    MIMO treats it as a lexicographic problem (first the worst uni-modal
    objective, then the fused one), relaxed and smoothed to one scalar

    `F = l_fused + penalty * smoothing * log(mean_m exp(l_m / smoothing))`

    whose gradient is `g_fused + penalty * sum_m p_m g_m` with
    `p = softmax(l_uni / smoothing)`: one backward pass, and the worst modality
    is pushed hardest. As `smoothing` goes to 0 the second term becomes
    `penalty * max_m l_m`, as it goes to infinity `penalty * mean_m l_m`.

    The curvature of `F` grows with `penalty / smoothing`, so the learning rate
    and `smoothing` are coupled. The paper takes a penalty of 10 or 100 with SGD
    at 1e-3: 100 with a smoothing of .01 on CREMA-D and AVE and of .001 on
    CMU-MOSEI (SGD at 1e-4), 10 with .01 on Kinetics-Sounds and VGGSound, .1 on
    AV-MNIST and 1 on UR-Funny.

    Args:
        fused: Name of the fused objective; all others are uni-modal.
            Defaults to `"fused"`, the name that `keras_mimo.late_fusion` gives.
        penalty: Non-negative float, the weight of the uni-modal term (lambda in
            the paper). Defaults to `1.0` (our choice, which the rule of
            `benchmarks/mimo_dial.py` confirmed by cross-validation on the
            training parts of five data sets; .3 was level with it).
        smoothing: Positive float, the temperature of the maximum (mu in the
            paper). Defaults to `0.1` (our choice, likewise).
        best_losses: Optional dict from uni-modal objectives to floats: the loss
            that each reaches by itself (`f*` in the paper), from which on it is
            measured, so that the modality counts as worst that is farthest from
            what it can do. Those that are left out have 0. `adapt()` takes them
            from runs. Defaults to `None`: 0 for all, as in the paper's
            experiments.

    Raises:
        TypeError: If `fused` or `best_losses` is of the wrong type.
        ValueError: If `penalty` is negative, `smoothing` is not positive or a
            best loss is not finite or, at build time, if no objective is called
            `fused`, if there is no other one, or if `best_losses` names none of
            the others.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    ```

    Reference:

    - [arXiv 2511.06686](https://arxiv.org/abs/2511.06686)
    """

    in_numpy = True
    traits = frozenset(
        {
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def __init__(
        self,
        fused="fused",
        penalty=1.0,
        smoothing=0.1,
        best_losses=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(fused, str):
            raise TypeError(
                "`fused` must be the name of an objective. "
                f"Received: fused={fused} of type {type(fused)}"
            )
        if not 0 <= penalty < math.inf:
            raise ValueError(
                "`penalty` must be a non-negative, finite number. "
                f"Received: penalty={penalty}"
            )
        if not 0 < smoothing < math.inf:
            raise ValueError(
                "`smoothing` must be a positive, finite number. "
                f"Received: smoothing={smoothing}"
            )
        self.fused = fused
        self.penalty = float(penalty)
        self.smoothing = float(smoothing)
        if best_losses is not None and not isinstance(best_losses, dict):
            raise TypeError(
                "`best_losses` must be a dict from uni-modal objectives to "
                f"floats. Received: best_losses={best_losses} "
                f"of type {type(best_losses)}"
            )
        self.best_losses = best_losses and check_numbers(
            "best_losses", best_losses
        )

    def adapt(self, runs):
        """Takes `best_losses` from runs in which a modality trained alone.

        Call it before the model is compiled.

        Args:
            runs: Dict from uni-modal objectives to what `fit()` returned, a
                `keras.callbacks.History`. The best loss is its lowest `loss`.

        Raises:
            TypeError: If `runs` is no such dict.
        """
        if not isinstance(runs, dict) or not all(
            isinstance(run, keras.callbacks.History) for run in runs.values()
        ):
            raise TypeError(
                "`runs` must be a dict from uni-modal objectives to what "
                f"`fit()` returned. Received: runs={runs}"
            )
        lowest = {name: min(run.history["loss"]) for name, run in runs.items()}
        self.best_losses = check_numbers("runs", lowest)

    def build(self, objective_names):
        super().build(objective_names)
        if self.fused not in self.objective_names:
            raise ValueError(
                "`fused` must name one of the objectives "
                f"{self.objective_names}. Received: fused={self.fused!r}"
            )

        unimodal = set(self.objective_names) - {self.fused}
        unknown = sorted(set(self.best_losses or ()) - unimodal)
        if unknown:
            raise ValueError(
                "`best_losses` must name uni-modal objectives, which are "
                f"{sorted(unimodal)}. Received: {unknown}"
            )

    def call(self, losses, gramian=None, active=None, training=True):
        losses = self._excess(losses)
        unimodal = self._unimodal(active)
        masked = ops.where(unimodal, losses, -math.inf)
        # Not a number if no uni-modal objective is active, and not used then.
        shares = ops.softmax((masked - ops.max(masked)) / self.smoothing)
        fused = ops.cast(self._is_fused(), losses.dtype)
        return ops.where(unimodal, self.penalty * shares, fused)

    def scalarize(self, losses, weights, active):
        losses = ops.where(active, self._excess(losses), 0.0)
        unimodal = self._unimodal(active)
        shifted, peak = self._shift(losses, unimodal)
        # Not log(mean(exp)): a large `smoothing` leaves nothing of that.
        growth = ops.where(unimodal, ops.expm1(shifted), 0.0)
        count = ops.sum(ops.cast(unimodal, losses.dtype))
        mean = ops.sum(growth) / ops.maximum(count, 1.0)
        smooth_maximum = peak + self.smoothing * ops.log1p(mean)
        fused = ops.sum(ops.where(self._is_fused() & active, losses, 0.0))
        return fused + self.penalty * smooth_maximum

    def _excess(self, losses):
        """How far each loss is from the best that is known of it."""
        if not self.best_losses:
            return losses
        best = [
            self.best_losses.get(name, 0.0) for name in self.objective_names
        ]
        return losses - ops.convert_to_tensor(np.array(best), losses.dtype)

    def _is_fused(self):
        # An array: PyTorch takes ten times as long for a list.
        return ops.convert_to_tensor(
            np.array([name == self.fused for name in self.objective_names])
        )

    def _unimodal(self, active):
        return active & ops.logical_not(self._is_fused())

    def _shift(self, losses, unimodal):
        """Losses over the smoothing, largest 0, so that none overflows."""
        lowest = ops.min(losses)
        peak = ops.max(ops.where(unimodal, losses, lowest))
        peak = ops.where(ops.any(unimodal), peak, 0.0)
        peak = ops.stop_gradient(peak)
        shifted = (ops.where(unimodal, losses, peak) - peak) / self.smoothing
        return shifted, peak

    def get_config(self):
        return {
            **super().get_config(),
            "fused": self.fused,
            "penalty": self.penalty,
            "smoothing": self.smoothing,
            "best_losses": self.best_losses,
        }
