import keras

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops


@keras.saving.register_keras_serializable(package="keras_mimo")
class KrumCombiner(BalancedGradientCombiner):
    """Averages the gradients that lie closest to the others.

    Multi-Krum: the score of a gradient is the sum of its squared distances to
    the `K - byzantine - 2` gradients nearest to it, and the mean of those with
    the lowest scores is the update. Up to `byzantine` gradients may then be
    anything: a rule against outliers and faulty data, not against conflict.

    Gradients of equal score share the places that are left for them equally:
    more than `selected` may then have a weight, and their order does not
    matter.

    K counts the active objectives. Where they are fewer than the two arguments
    ask for, one neighbour is counted, and all of the objectives are averaged.

    Args:
        byzantine: Non-negative integer, how many gradients may be anything.
            Defaults to `1`.
        selected: Positive integer, how many gradients are averaged. Defaults to
            `1`, as in Krum.

    Raises:
        ValueError: If an argument is out of its range or, at build time, if
            there are fewer than `byzantine + 3` or `selected` objectives.

    Reference:

    - [Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent](
        https://proceedings.neurips.cc/paper/2017/hash/f4b9ec30ad9f68f89b29639786cb62ef-Abstract.html)
    """

    in_numpy = True
    needs = "gramian"
    traits = frozenset(
        {"convex", "homogeneous", "nonnegative", "permutation_equivariant"}
    )

    def __init__(self, byzantine=1, selected=1, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(byzantine, int) or byzantine < 0:
            raise ValueError(
                "`byzantine` must be a non-negative integer. "
                f"Received: byzantine={byzantine}"
            )
        if not isinstance(selected, int) or selected < 1:
            raise ValueError(
                "`selected` must be a positive integer. "
                f"Received: selected={selected}"
            )
        self.byzantine = byzantine
        self.selected = selected

    def build(self, objective_names):
        super().build(objective_names)
        needed = max(self.byzantine + 3, self.selected)
        if len(self.objective_names) < needed:
            raise ValueError(
                f"KrumCombiner with byzantine={self.byzantine} and selected="
                f"{self.selected} needs at least {needed} objectives. "
                f"Received: objective_names={self.objective_names}"
            )

    def call(self, losses, gramian=None, active=None, training=True):
        gramian = ops.stop_gradient(gramian)
        squares = ops.diagonal(gramian)
        distances = squares[:, None] + squares[None, :] - 2 * gramian
        places = ops.arange(losses.shape[0], dtype="int32")
        pairs = active[:, None] & active[None, :]
        pairs = pairs & (places[:, None] != places[None, :])
        infinite = float("inf")
        distances = ops.where(pairs, ops.relu(distances), infinite)

        present = ops.sum(ops.cast(active, "int32"))
        neighbours = ops.maximum(present - self.byzantine - 2, 1)
        # Sorted, so that the rounding of the sum does not depend on the order.
        nearest = ops.where(places < neighbours, ops.sort(distances), 0.0)
        scores = ops.where(active, ops.sum(nearest, axis=-1), infinite)
        lower = _count(scores[None, :] < scores[:, None])
        equal = _count(scores[None, :] == scores[:, None])
        shared = ops.clip(self.selected - lower, 0, equal)
        weights = ops.cast(shared, gramian.dtype)
        weights = weights / ops.cast(equal, gramian.dtype)
        weights = ops.where(active, weights, 0.0)
        return weights / ops.maximum(ops.sum(weights), 1.0)

    def get_config(self):
        return {
            **super().get_config(),
            "byzantine": self.byzantine,
            "selected": self.selected,
        }


def _count(where):
    return ops.sum(ops.cast(where, "int32"), axis=-1)
