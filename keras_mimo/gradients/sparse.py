import dataclasses
from typing import Any

from keras import ops


@dataclasses.dataclass
class SparseGradient:
    """A gradient that is zero outside of some rows of its variable.

    Args:
        values: Tensor of shape `(N, ...)`.
        rows: Integer tensor of shape `(N,)`, where these are in the variable. A
            row may be there again, with zeros.
        shape: Shape of the variable.
    """

    values: Any
    rows: Any
    shape: tuple

    @classmethod
    def summed(cls, values, rows, shape):
        """Of rows that may be there again with values, which are added up.

        An optimizer that squares them, or takes their norm, needs the sums.
        """
        distinct = _distinct(rows, shape[0])
        return cls(_at(distinct, values, rows), distinct, shape)

    @property
    def dtype(self):
        return self.values.dtype

    def __mul__(self, factor):
        return dataclasses.replace(self, values=self.values * factor)

    def __add__(self, other):
        return self.summed(
            ops.concatenate([self.values, other.values]),
            ops.concatenate([self.rows, other.rows]),
            self.shape,
        )

    def dense(self):
        """Returns a tensor of the variable's shape."""
        return ops.segment_sum(self.values, self.rows, self.shape[0])


def dense(gradient):
    """The gradient as a tensor, `None` where there is none."""
    sparse = isinstance(gradient, SparseGradient)
    return gradient.dense() if sparse else gradient


def on_same_rows(column):
    """Brings the gradients of several objectives into one shape.

    Args:
        column: Dict from objectives to their gradients of one variable.

    Returns:
        Dict of tensors of the same shape, and a function that makes of such a
        tensor a gradient of the variable.
    """
    gradients = list(column.values())
    if not gradients or not all(
        isinstance(gradient, SparseGradient) for gradient in gradients
    ):
        return {k: dense(g) for k, g in column.items()}, lambda tensor: tensor
    rows, shape = gradients[0].rows, gradients[0].shape
    if len(gradients) > 1:
        rows = ops.concatenate([gradient.rows for gradient in gradients])
        rows = _distinct(rows, shape[0])
        values = [_at(rows, g.values, g.rows) for g in gradients]
    else:
        values = [gradients[0].values]
    return (
        dict(zip(column, values, strict=True)),
        lambda tensor: SparseGradient(tensor, rows, shape),
    )


def _distinct(rows, limit):
    """The distinct rows in order, the last as often as to fill the tensor.

    How many they are only the batch tells: a compiler must know before.
    """
    ranked = ops.sort(rows)
    again = ops.concatenate(
        [ops.zeros_like(ranked[:1], dtype="bool"), ranked[1:] == ranked[:-1]]
    )
    last = ops.max(ranked, initial=0)
    return ops.sort(ops.where(again, last, ranked))[:limit]


def _at(distinct, values, rows):
    """The sums of the values of the same row, at its place."""
    places = ops.searchsorted(distinct, rows)
    return ops.segment_sum(values, places, ops.shape(distinct)[0])
