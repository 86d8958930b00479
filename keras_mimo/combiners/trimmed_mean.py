import keras
from keras import ops

from keras_mimo.combiners.coordinates import CoordinateCombiner


@keras.saving.register_keras_serializable(package="keras_mimo")
class TrimmedMeanCombiner(CoordinateCombiner):
    """Takes the mean of each coordinate without its extreme entries.

    The `trim` largest and the `trim` smallest of the active gradients' entries
    are left out, so that no `trim` objectives can move the update far. Where
    `2 * trim` or fewer are active, as many are left out as leave one or two.

    Args:
        trim: Non-negative integer. Defaults to `1`.

    Raises:
        ValueError: If `trim` is not a non-negative integer.

    Reference:

    - [Byzantine-Robust Distributed Learning](
        https://arxiv.org/abs/1803.01498)
    """

    traits = frozenset({"homogeneous", "permutation_equivariant"})

    def __init__(self, trim=1, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(trim, int) or isinstance(trim, bool) or trim < 0:
            raise ValueError(
                f"`trim` must be a non-negative integer. Received: trim={trim}"
            )
        self.trim = trim

    def call(self, losses, gramian=None, active=None, training=True):
        active = ops.cast(active, losses.dtype)
        return active / ops.maximum(ops.sum(active), 1.0)

    def combine_coordinates(self, rows, active, training):
        count = ops.sum(ops.cast(active, "int32"))
        trim = ops.clip((count - 1) // 2, 0, self.trim)
        # What is not active comes last, and is no one's neighbour.
        present = ops.where(active[:, None], rows, float("inf"))
        ranks = ops.arange(rows.shape[0], dtype="int32")
        kept = (ranks >= trim) & (ranks < count - trim)
        ordered = ops.where(kept[:, None], ops.sort(present, axis=0), 0.0)
        number = ops.cast(ops.maximum(count - 2 * trim, 1), rows.dtype)
        return ops.sum(ordered, axis=0) / number

    def get_config(self):
        return {**super().get_config(), "trim": self.trim}
