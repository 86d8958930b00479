from keras import backend
from keras import ops

from keras_mimo.gradients.sparse import on_same_rows


class FlatRows:
    """K gradients over the same variables, per variable as flat rows.

    One matrix of all variables would cost a copy more, and would be mostly
    zeros in the variables that one objective has to itself, such as a head.

    Args:
        rows: Iterable of K lists, with one gradient or `None` per variable.

    Attributes:
        reached: List of K booleans, false where all of a row is `None`.
    """

    def __init__(self, rows):
        rows = list(rows)
        self._count = len(rows)
        # Of a table, the rows that any of the objectives reaches.
        shared = [
            on_same_rows({k: g for k, g in enumerate(column) if g is not None})
            for column in zip(*rows, strict=True)
        ]
        self._columns = [column for column, _ in shared]
        self._restore = [restore for _, restore in shared]
        self.reached = [
            any(k in column for column in self._columns)
            for k in range(self._count)
        ]
        self._dtype = _accumulator(
            g for column in self._columns for g in column.values()
        )

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
            (
                self._spread(sum(b), objectives)
                for objectives, b in blocks.items()
            ),
            ops.zeros((self._count, self._count), dtype=self._dtype),
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
        return [
            restore(self._weigh(weights, column)) if column else None
            for column, restore in self._with_restore()
        ]

    def per_coordinate(self, combine):
        """Returns one gradient per variable, by a function of coordinates.

        Args:
            combine: Function of a matrix with one row for each objective that
                reaches the variable and one column for each coordinate, and of
                the list of these objectives, that returns a vector.
        """
        return [
            restore(self._combine(combine, column)) if column else None
            for column, restore in self._with_restore()
        ]

    def matrices(self, sizes):
        """The rows as matrices `(K, P)`, zeros where there is no gradient.

        Args:
            sizes: List of the size of each variable.
        """
        return [
            ops.stack(
                [self._whole(column, k, size) for k in range(self._count)]
            )
            for column, size in zip(self._columns, sizes, strict=True)
        ]

    def gradients(self, totals):
        """Vectors of these sizes as gradients, `None` where none was."""
        return [
            restore(_like(total, next(iter(column.values()))))
            if column
            else None
            for total, (column, restore) in zip(
                totals, self._with_restore(), strict=True
            )
        ]

    def _whole(self, column, k, size):
        if k not in column:
            return ops.zeros((size,), dtype=self._dtype)
        return ops.cast(ops.reshape(column[k], (size,)), self._dtype)

    def _with_restore(self):
        return zip(self._columns, self._restore, strict=True)

    def _combine(self, combine, column):
        total = combine(self._matrix(column), list(column))
        return _like(total, next(iter(column.values())))

    def _weigh(self, weights, column):
        # A matrix product may round float32 to TF32 on a GPU.
        total = sum(
            weights[k] * ops.cast(g, self._dtype) for k, g in column.items()
        )
        return ops.cast(total, next(iter(column.values())).dtype)


def _like(total, gradient):
    return ops.cast(ops.reshape(total, ops.shape(gradient)), gradient.dtype)


def _accumulator(gradients):
    dtypes = {backend.standardize_dtype(g.dtype) for g in gradients}
    return "float64" if "float64" in dtypes else "float32"
