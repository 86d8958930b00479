import keras
from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers.cosines import cosines
from keras_mimo.solvers.length import combined_length
from keras_mimo.solvers.nonnegative_qp import nonnegative_qp
from keras_mimo.solvers.rounding import rounding
from keras_mimo.utils.arguments import check_fraction
from keras_mimo.utils.arguments import check_number


@keras.saving.register_keras_serializable(package="keras_mimo")
class PCDCombiner(BalancedGradientCombiner):
    """Follows one objective, as closely as the others' least progress lets it.

    Priority-constrained descent. With the gradients `h_k = g_k / sqrt(v_k)`,
    where `v_k` is a moving average of `||g_k||^2` corrected for its start, the
    update is, for the primary objective `p`,

    `argmin_d ||d - h_p||^2` with `h_k . d >= tau * ||h_k||^2` for `k != p`

    at the length of `g_p`. Every other objective gets the share `tau` of the
    progress that a step along its own gradient would give; the primary one can
    get worse where the others oppose it.

    Where no `d` can do this for all, up to rounding, the update is `g_p`. Where
    `g_p` is 0, or its objective is absent from the batch while several others
    are not, the update is 0. An objective that is absent keeps its average. The
    released code adds `1e-8` to `v_k`.

    Args:
        primary: Name of the objective that is followed. Defaults to `None`: the
            first one.
        tau: Float from 0 to 1. Defaults to `0.02`, that of TorchJD.
        beta: Float in `[0, 1)`, the share of the past in the averages. Defaults
            to `0.999`, that of TorchJD.

    Raises:
        TypeError: If `tau` or `beta` is no number.
        ValueError: If one is out of range or, at build time, if no objective is
            called `primary`.

    Reference:

    - [Not All Objectives Are Born Equal: Priority-Constrained Descent](
        https://arxiv.org/abs/2606.29521)
    """

    needs = "gramian"
    traits = frozenset({"nonnegative", "stateful"})

    def __init__(self, primary=None, tau=0.02, beta=0.999, **kwargs):
        super().__init__(**kwargs)
        self.primary = primary
        self.tau = check_fraction("tau", tau)
        self.beta = check_number("beta", beta, positive=False)
        if self.beta >= 1:
            raise ValueError(f"`beta` must be in [0, 1). Received: beta={beta}")

    def build(self, objective_names):
        super().build(objective_names)
        names = self.objective_names
        if self.primary is not None and self.primary not in names:
            raise ValueError(
                f"`primary` must name one of the objectives {names}. "
                f"Received: primary={self.primary!r}"
            )
        # The average is total / mass, so that its start weighs nothing.
        self.total, self.mass = (
            self.add_weight(
                name=name,
                shape=(len(names),),
                initializer="zeros",
                trainable=False,
            )
            for name in ("total", "mass")
        )

    def call(self, losses, gramian=None, active=None, training=True):
        first = self.primary or self.objective_names[0]
        is_first = ops.convert_to_tensor(
            [name == first for name in self.objective_names]
        )
        matrix, lengths, positive = cosines(gramian, active)
        # Of the lengths that are usual.
        sizes = ops.where(positive, lengths / self._usual(lengths, active), 0.0)
        others = positive & ~is_first
        pairs = others[:, None] & others[None, :]
        secondary = ops.where(pairs, matrix, 0.0)
        start = ops.where(is_first, sizes, 0.0)
        along = ops.sum(matrix * start[None, :], axis=1)
        missing = ops.where(others, self.tau * sizes - along, 0.0)
        added = nonnegative_qp(secondary, missing[None, :])[0]
        added = ops.where(_satisfies(secondary, added, missing), added, 0.0)

        length = ops.sum(ops.where(is_first & positive, lengths, 0.0))
        weights = (start + added) * (length / lengths)
        found = combined_length(weights, gramian)
        ratio = length / ops.where(found > 0, found, 1.0)
        return ops.where(found > 0, weights * ratio, 0.0)

    def _usual(self, lengths, active):
        total, mass = (
            ops.cast(ops.convert_to_tensor(v), lengths.dtype)
            for v in (self.total, self.mass)
        )
        new_total = self.beta * total + (1.0 - self.beta) * lengths * lengths
        new_mass = self.beta * mass + (1.0 - self.beta)
        usual = ops.sqrt(new_total / new_mass)
        self.total.assign(ops.where(active, new_total, total))
        self.mass.assign(ops.where(active, new_mass, mass))
        return usual

    def get_config(self):
        return {
            **super().get_config(),
            "primary": self.primary,
            "tau": self.tau,
            "beta": self.beta,
        }


def _satisfies(matrix, values, vector):
    """Whether `Q z >= b`: far out, a `z` seems to satisfy it by rounding."""
    product = ops.sum(matrix * values[None, :], axis=1)
    error = rounding(matrix) * (ops.sum(values) + ops.max(abs(vector)))
    reached = ops.all(product - vector >= -error)
    return reached & (error <= 1e-2 * ops.max(abs(vector)))
