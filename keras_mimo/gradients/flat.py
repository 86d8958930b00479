from keras import backend
from keras import ops


class FlatRows:
    """K gradients over the same variables, per variable as flat rows.

    One matrix of all variables would cost a copy more, and would be mostly
    zeros in the variables that one objective has to itself, such as a head.

    Args:
        rows: List of K lists, with one gradient or `None` per variable.

    Raises:
        ValueError: If no objective reaches any variable.
    """

    def __init__(self, rows):
        self._count = len(rows)
        self._columns = [
            {k: g for k, g in enumerate(column) if g is not None}
            for column in zip(*rows, strict=True)
        ]
        reached = [g for column in self._columns for g in column.values()]
        if not reached:
            raise ValueError(
                "No objective has a gradient with respect to any balanced "
                "variable. Check `balanced_variables` in `compile()` and the "
                "`trainable` attributes of the layers."
            )
        self._dtype = _accumulator(reached)

    def gramian(self, product):
        """Returns the inner products of the rows, a matrix `(K, K)`.

        Args:
            product: Function of a matrix that returns its Gramian in the full
                precision of the matrix.
        """
        blocks = {}
        for column in self._columns:
            if column:
                block = product(self._matrix(column))
                blocks.setdefault(tuple(column), []).append(block)
        return sum(
            self._spread(sum(same), objectives)
            for objectives, same in blocks.items()
        )

    def _matrix(self, column):
        rows = ops.stack(list(column.values()))
        return ops.cast(ops.reshape(rows, (len(column), -1)), self._dtype)

    def _spread(self, block, objectives):
        """The Gramian of some objectives as one of all, zero elsewhere."""
        if len(objectives) == self._count:
            return block
        padded = ops.pad(block, ((0, 1), (0, 1)))
        places = [
            objectives.index(k) if k in objectives else len(objectives)
            for k in range(self._count)
        ]
        return ops.take(ops.take(padded, places, axis=0), places, axis=1)

    def weighted_sum(self, weights):
        """Returns `sum_k weights_k * row_k` as one gradient per variable."""
        weights = [weights[k] for k in range(self._count)]
        return [self._combine(weights, column) for column in self._columns]

    def _combine(self, weights, column):
        if not column:
            return None
        # A matrix product may round float32 to TF32 on a GPU.
        total = sum(
            weights[k] * ops.cast(g, self._dtype) for k, g in column.items()
        )
        return ops.cast(total, next(iter(column.values())).dtype)


def _accumulator(gradients):
    dtypes = {backend.standardize_dtype(g.dtype) for g in gradients}
    return "float64" if "float64" in dtypes else "float32"
