import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.min_norm import min_norm

NORMALIZATIONS = (None, "l2", "loss", "loss+")
MODES = ("corrected", "reference")


@keras.saving.register_keras_serializable(package="keras_mimo")
class MGDACombiner(BalancedGradientCombiner):
    """Steps along the shortest vector in the convex hull of the gradients.

    The multiple-gradient descent algorithm: weights `w` on the simplex minimise
    the length of `d = sum_k w_k g_k`. Then `g_k . d >= ||d||^2` for every
    objective `k`, with equality where `w_k > 0`: no objective is made worse to
    first order, those that set the pace improve equally, and `d = 0` exactly
    where no direction improves them all. The minimiser is exact for any number
    of objectives, not the end of an iteration.

    With a normalization the same is solved for the vectors `g_k / n_k`, and the
    weights are `w_k / n_k`: applied to `g_k` they give the vector that was
    solved for. The guarantee is that of the normalised vectors,
    `g_k . d >= n_k ||d||^2`. The released code of both papers below applies
    `w_k` instead: that is `mode="reference"`, in which objectives do conflict.

    Limits:

    - The step vanishes where one objective has converged, or where gradients
      are opposed, since both make the shortest vector short.
    - Gradients of small batches are noisy, and the shortest vector follows
      whichever is shortest by chance. Training can then stall or collapse. On
      long-tailed classes, with few samples of the tail in a batch, it did; what
      helped was the Gramian averaged over steps together with a step of the
      mean gradient's length.
    - With `"l2"` the step depends on the angles between the gradients and not
      on their lengths, so it does not shrink as they do: decay the learning
      rate. `"loss"` and `"loss+"` divide by losses that may come close to 0.

    Rounding: with `eps` of the dtype of the Gramian (`1.2e-7` for `float32`),
    `g_k . d` falls short of `||d||^2` by at most
    `4 * K * eps * ||g_k|| * sum_j w_j ||g_j||`, about what the rounding of the
    Gramian alone can do. It matters only where `d` is far shorter than the
    gradients that it is made of.

    Args:
        normalization: What the gradients are divided by, one of `None`,
            `"l2"` (`n_k = ||g_k||`), `"loss"` (`n_k = |l_k|`) and `"loss+"`
            (`n_k = |l_k| * ||g_k||`). Where `n_k` is 0, 1 is used. Defaults to
            `None`, as in Désidéri's algorithm; the names are those of Sener and
            Koltun's code, and GBG for long-tailed classes uses `"loss+"`.
        mode: `"corrected"`, or `"reference"` to do as released code does, for
            comparison. They differ with a normalization only. Defaults to
            `"corrected"`.

    Raises:
        ValueError: If `normalization` or `mode` is none of these.

    Example:

    ```python
    model = keras_mimo.BalancedModel(inputs, {"depth": depth, "label": label})
    model.compile(
        "adam",
        loss={"depth": "mse", "label": "sparse_categorical_crossentropy"},
        combiner=keras_mimo.MGDACombiner(),
    )
    ```

    On plain arrays:

    >>> gramian = [[18.0, -22.0], [-22.0, 38.0]]
    >>> keras_mimo.MGDACombiner()([1.0, 1.0], gramian)
    [0.6, 0.4]

    Reference:

    - Désidéri, 2012, Multiple-gradient descent algorithm (MGDA) for
      multiobjective optimization
    - [Sener and Koltun, 2018](https://arxiv.org/abs/1810.04650)
    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset(
        {
            "convex",
            "homogeneous",
            "non_conflicting",
            "nonnegative",
            "permutation_equivariant",
        }
    )

    def __init__(self, normalization=None, mode="corrected", **kwargs):
        super().__init__(**kwargs)
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                "Invalid value for argument `normalization`. Expected one of "
                f"{NORMALIZATIONS}. Received: normalization={normalization!r}"
            )
        if mode not in MODES:
            raise ValueError(
                "Invalid value for argument `mode`. Expected one of "
                f"{MODES}. Received: mode={mode!r}"
            )
        self.normalization = normalization
        self.mode = mode

    def call(self, losses, gramian=None, active=None, training=True):
        divisors = self._divisors(ops.absolute(losses), gramian)
        normalized = gramian / divisors[:, None] / divisors[None, :]
        weights = min_norm(normalized, active)
        return weights if self.mode == "reference" else weights / divisors

    def _divisors(self, losses, gramian):
        divisors = ops.ones_like(losses)
        if self.normalization in ("loss", "loss+"):
            divisors = divisors * losses
        if self.normalization in ("l2", "loss+"):
            divisors = divisors * ops.sqrt(ops.relu(ops.diagonal(gramian)))
        return ops.where(divisors > 0, divisors, 1.0)

    def get_config(self):
        return {
            **super().get_config(),
            "normalization": self.normalization,
            "mode": self.mode,
        }
