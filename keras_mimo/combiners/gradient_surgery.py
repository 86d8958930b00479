import keras
import numpy as np

from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.solvers import ops
from keras_mimo.solvers.cosines import cosines


class GradientSurgeryCombiner(BalancedGradientCombiner):
    """Base class of combiners that turn each gradient towards the others.

    The copy of `g_i` meets the other gradients one after the other and, where
    its cosine with `g_j` is below a target, gets the multiple of `g_j` added
    that raises it to the target; the update is the sum of the copies. The order
    of the meetings is random in training. With `training=False` it is the mean
    over the orders that rotation and reversal make of the given one, which are
    all there are for up to four objectives.

    Args:
        seed: Integer or `None`, of the random orders. Defaults to `None`.
    """

    needs = "gramian"

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def surgery(self, gramian, active, targets, training):
        """Turns the gradients.

        Args:
            gramian: Tensor of shape `(K, K)`.
            active: Boolean tensor of shape `(K,)`.
            targets: Tensor of shape `(K, K)`, less than 1: for each gradient,
                in the rows, the cosines with the others.
            training: Boolean.

        Returns:
            Tuple: the weights, of shape `(K,)`; the cosines at the meetings, of
            shape `(K, K)` and 0 on the diagonal; and where there was a meeting.
        """
        matrix, lengths, positive = cosines(gramian, active)
        orders = self._orders(training)
        identity = ops.eye(lengths.shape[0], dtype=lengths.dtype)
        rows = identity * ops.where(positive, lengths, 0.0)
        rows = ops.broadcast_to(rows, orders.shape)
        columns = ops.arange(orders.shape[-1], dtype="int32")
        meetings = positive[:, None] & positive[None, :]
        meetings = meetings & (columns[:, None] != columns[None, :])
        tangents = targets / ops.sqrt((1 - targets) * (1 + targets))

        def step(position, state):
            rows, seen = state
            here = ops.take(orders, position, axis=-1)[..., None] == columns
            here = here & meetings
            # No matmul: accelerators round float32 in theirs.
            products = ops.sum(rows[..., None, :] * matrix, axis=-1)
            squares = ops.sum(rows * products, axis=-1, keepdims=True)
            size = ops.sqrt(ops.relu(squares))
            cosine = products / ops.where(size > 0, size, 1.0)
            cosine = ops.clip(cosine, -1.0, 1.0)
            # Towards the target in the plane of the two.
            sine = ops.sqrt((1 - cosine) * (1 + cosine))
            added = size * (tangents * sine - cosine)
            change = here & (cosine < targets)
            rows = rows + ops.where(change, added, 0.0)
            return rows, ops.where(here, cosine, seen)

        rows, seen = ops.fori_loop(
            0, orders.shape[-1], step, (rows, ops.zeros_like(rows))
        )
        # No ops.mean: on PyTorch it rounds float64 to float32.
        weights = ops.sum(rows, axis=(0, 1)) / orders.shape[0] / lengths
        return weights, ops.sum(seen, axis=0) / orders.shape[0], meetings

    def _orders(self, training):
        """Tensor of shape `(orders, K, K)`: whom each meets, one by one."""
        count = len(self.objective_names)
        if training:
            shape = (1, count, count)
            draws = keras.random.uniform(shape, seed=self.seed_generator)
            return ops.argsort(ops.convert_to_tensor(draws), axis=-1)
        # Of the others, seen from each: 1, 2, ... steps further round.
        places = np.arange(count - 1)
        turns = (places[:, None] + places) % (count - 1) + 1
        turns = np.concatenate([turns, turns[:, ::-1]])
        orders = (turns[:, None, :] + np.arange(count)[:, None]) % count
        itself = np.broadcast_to(
            np.arange(count)[:, None], (len(turns), count, 1)
        )
        orders = np.concatenate([orders, itself], axis=-1)
        return ops.convert_to_tensor(orders, dtype="int32")

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}
