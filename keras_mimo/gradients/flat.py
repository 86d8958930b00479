import math

from keras import backend
from keras import ops


class FlatRows:
    """K gradients over the same variables as one matrix `(K, P)`.

    A variable that no objective reaches takes no part. One that some objectives
    reach has zeros for the others.

    Args:
        rows: List of K lists, with one gradient or `None` per variable.

    Raises:
        ValueError: If no objective reaches any variable.
    """

    def __init__(self, rows):
        self._examples = [
            next((g for g in column if g is not None), None)
            for column in zip(*rows, strict=True)
        ]
        reached = [g for g in self._examples if g is not None]
        if not reached:
            raise ValueError(
                "No objective has a gradient with respect to any balanced "
                "variable. Check `balanced_variables` in `compile()` and the "
                "`trainable` attributes of the layers."
            )
        self._dtype = _accumulator(reached)
        self.matrix = ops.stack([self._flatten(row) for row in rows])

    def _flatten(self, row):
        return ops.concatenate(
            [
                ops.cast(
                    ops.reshape(
                        ops.zeros_like(example) if g is None else g, -1
                    ),
                    self._dtype,
                )
                for g, example in zip(row, self._examples, strict=True)
                if example is not None
            ]
        )

    def weighted_sum(self, weights):
        """Returns `sum_k weights_k * row_k` as one gradient per variable."""
        # A matrix product may round float32 to TF32 on a GPU.
        total = sum(
            weights[k] * self.matrix[k] for k in range(self.matrix.shape[0])
        )
        parts = []
        start = 0
        for example in self._examples:
            if example is None:
                parts.append(None)
                continue
            stop = start + math.prod(example.shape)
            part = ops.reshape(total[start:stop], example.shape)
            parts.append(ops.cast(part, example.dtype))
            start = stop
        return parts


def _accumulator(gradients):
    dtypes = {backend.standardize_dtype(g.dtype) for g in gradients}
    return "float64" if "float64" in dtypes else "float32"
