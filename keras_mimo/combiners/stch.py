import keras
from keras import ops

from keras_mimo.combiners.preference import PreferenceCombiner
from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_numbers
from keras_mimo.utils.arguments import one_each


@keras.saving.register_keras_serializable(package="keras_mimo")
class STCHCombiner(PreferenceCombiner):
    """Descends a smooth maximum of the losses, each times its preference.

    Smooth Tchebycheff scalarization: the one scalar

    `F = smoothing * log(sum_k exp(p_k * (l_k - reference_k) / smoothing))`

    whose weights are `p * softmax(p * (l - reference) / smoothing)`. As
    `smoothing` goes to 0 it becomes `max_k p_k * (l_k - reference_k)`, whose
    minima are Pareto optima, also where the Pareto front is not convex.

    The preferences `p` have mean 1 over the active objectives. Without
    preferences that is the smooth maximum of the losses themselves: its weights
    have sum 1, and `smoothing` is in units of the losses for any K. The paper
    gives preferences sum 1, which is the same problem: its `smoothing` times K
    is ours, and its loss too. An objective with preference 0 is left out.

    Args:
        smoothing: Positive float, the temperature of the maximum (mu in the
            paper). Defaults to `0.1` (our choice: the one to sweep).
        reference: The best losses that can be hoped for: a float, a list of
            floats in the order of the objectives, or a dict that maps their
            names to floats, in which an objective that is left out has 0.
            Defaults to `0.0`, the lower bound of most losses.
        preference: As in `PreferenceCombiner`. Defaults to `None`: all
            objectives alike.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `smoothing` is not positive, if a number is not finite
            or, at build time, if an argument does not fit the objectives.

    Reference:

    - [Smooth Tchebycheff Scalarization for Multi-Objective Optimization](
        https://arxiv.org/abs/2402.19078)
    """

    needs = "losses"
    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "linear_under_scaling",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def __init__(self, smoothing=0.1, reference=0.0, preference=None, **kwargs):
        super().__init__(preference=preference, **kwargs)
        self.smoothing = check_number("smoothing", smoothing)
        self.reference = check_numbers("reference", reference)

    def build(self, objective_names):
        super().build(objective_names)
        one_each("reference", self.reference, self.objective_names)

    def call(self, losses, gramian=None, active=None, training=True):
        preferences, terms, _ = self._terms(losses, active)
        total = ops.sum(terms)
        return preferences * terms / ops.where(total > 0, total, 1.0)

    def scalarize(self, losses, weights, active):
        _, terms, peak = self._terms(ops.where(active, losses, 0.0), active)
        # 0 if nothing that is preferred is active; a NaN is not hidden.
        total = ops.where(ops.any(terms > 0), ops.sum(terms), 1.0)
        return peak + self.smoothing * ops.log(total)

    def _terms(self, losses, active):
        """Preferences, the terms of the sum over the largest, and its log."""
        dtype = losses.dtype
        preferences = self.shares(active, dtype)
        count = ops.sum(ops.cast(active, dtype))
        preferences = preferences * count
        present = preferences > 0
        reference = one_each("reference", self.reference, self.objective_names)
        reference = ops.convert_to_tensor(reference, dtype=dtype)
        scores = ops.where(present, preferences * (losses - reference), 0.0)
        peak = ops.max(ops.where(present, scores, ops.min(scores)))
        peak = ops.stop_gradient(peak)
        shifted = ops.where(present, scores - peak, 0.0) / self.smoothing
        terms = ops.where(present, ops.exp(shifted), 0.0)
        return preferences, terms, peak

    def get_config(self):
        return {
            **super().get_config(),
            "smoothing": self.smoothing,
            "reference": self.reference,
        }
