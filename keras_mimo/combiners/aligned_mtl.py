import keras

from keras_mimo.combiners.preference import PreferenceCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.eigen import eigen

SCALES = ("min", "median", "rmse")


@keras.saving.register_keras_serializable(package="keras_mimo")
class AlignedMTLCombiner(PreferenceCombiner):
    """Replaces the gradients by the closest orthogonal ones of equal length.

    Aligned-MTL makes the condition number of the gradients 1: with `U S V'`
    their singular value decomposition, their mean is taken after `S` has
    become one multiple of the identity. Conflict and dominance disappear among
    the new gradients, but `g_k . d >= 0` is not guaranteed for the old ones.

    Singular values whose square is below `4 * K * eps` of the largest square
    are rounding in the Gramian and are left out: in `float32` gradients some
    hundred times shorter than the longest have no say.

    Args:
        scale: The common singular value, one of `"min"` (the smallest that is
            not rounding), `"median"` (the lower one of two) and `"rmse"` (the
            root mean square). Defaults to `"min"`, as in the paper.
        preference: `None` (the mean), list of K non-negative floats in the
            order of the objectives, or dict of them by objective name (0 where
            left out): the weights of the mean, relative to their sum.
            Defaults to `None`.

    Raises:
        TypeError: If `preference` is of another type.
        ValueError: If `scale` is none of these, or if a preference is not a
            finite, non-negative number or all are 0 or, at build time, if they
            do not fit the objectives.

    Reference:

    - [Independent Component Alignment for Multi-Task Learning](
        https://arxiv.org/abs/2305.19000)
    """

    in_numpy = True
    traits = frozenset({"homogeneous", "permutation_equivariant"})

    def __init__(self, scale="min", preference=None, **kwargs):
        super().__init__(preference=preference, **kwargs)
        if scale not in SCALES:
            raise ValueError(
                "Invalid value for argument `scale`. Expected one of "
                f"{SCALES}. Received: scale={scale!r}"
            )
        self.scale = scale

    def call(self, losses, gramian=None, active=None, training=True):
        gramian = ops.stop_gradient(gramian)
        trace = ops.sum(ops.diagonal(gramian))
        gramian = gramian / ops.where(trace > 0, trace, 1.0)
        values, vectors, kept = eigen(gramian)
        # A ratio: the scale of the problem cancels.
        ratios = self._square(values, kept) / ops.where(kept, values, 1.0)
        stretch = ops.where(kept, ops.sqrt(ops.relu(ratios)), 0.0)
        shares = self.shares(active, gramian.dtype)
        parts = stretch * ops.sum(vectors * shares[:, None], axis=0)
        return ops.sum(vectors * parts, axis=-1)

    def _square(self, values, kept):
        rank = ops.sum(ops.cast(kept, "int32"))
        if self.scale == "rmse":
            total = ops.sum(ops.where(kept, values, 0.0))
            return total / ops.cast(ops.maximum(rank, 1), values.dtype)
        # Those that are kept come last.
        count = values.shape[-1]
        place = count - rank
        if self.scale == "median":
            place = place + (rank - 1) // 2
        place = ops.clip(place, 0, count - 1)
        return ops.take(values, place)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
