import math

from keras import ops

from keras_mimo.combiners.combiner import BalancedGradientCombiner


class RowCombiner(BalancedGradientCombiner):
    """Base class of combiners with a number for each coordinate of gradients.

    Before the Gramian is taken, a model shows it the gradients, one matrix of
    shape `(K, P)` per balanced variable. It returns those whose Gramian
    `call()` gets, and those that are weighted. What it keeps takes the memory
    of K copies of the balanced variables, and is saved with the model.

    Outside of a model, set `row_sizes` before `build()` to use `show()`.
    Without, the Gramian that is given counts as one of what `see()` returns.

    Attributes:
        row_sizes: Tuple of the sizes `P` of the balanced variables, or `None`.
        kept: List of variables of shape `(K, P)`, 0 at first.
    """

    needs = "gramian"
    keeps_rows = True
    row_sizes = None

    def build(self, objective_names):
        super().build(objective_names)
        count = len(self.objective_names)
        self.kept = [
            self.add_weight(
                name=f"rows_{index}",
                shape=(count, size),
                initializer="zeros",
                trainable=False,
            )
            for index, size in enumerate(self.row_sizes or ())
        ]

    def show(self, rows, active=None, training=True):
        """Shows gradients, once in a step and before the combiner is called.

        If one of them is not finite nothing is kept, and they are returned as
        they are, so that the optimizer and the logs see it.

        Args:
            rows: List of tensors of shape `(K, P)`, the gradients with respect
                to each balanced variable.
            active: Optional boolean tensor of shape `(K,)`. Defaults to all.
            training: Boolean. With `False`, nothing is kept.

        Returns:
            Two such lists: of what the Gramian is taken, and what is weighted.
        """
        rows = [ops.convert_to_tensor(matrix) for matrix in rows]
        if active is None:
            active = ops.ones((rows[0].shape[0],), dtype="bool")
        active = ops.cast(active, "bool")
        present = [ops.where(active[:, None], matrix, 0.0) for matrix in rows]
        # Of their squares, which may overflow.
        finite = ops.isfinite(sum(ops.sum(x * x) for x in present))
        changed = active & finite & training
        seen, weighted = self.see(present, active, changed)
        return [
            [
                ops.where(finite, new, old)
                for new, old in zip(found, present, strict=True)
            ]
            for found in (seen, weighted)
        ]

    def see(self, rows, active, changed):
        """What is made of gradients; implemented by subclasses.

        Args:
            rows: List of tensors of shape `(K, P)`, 0 where not active.
            active: Boolean tensor of shape `(K,)`.
            changed: Boolean tensor of shape `(K,)`: whose state changes.

        Returns:
            Two such lists, as `show()`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not implement `see()`."
        )

    def advance(self, variable, advanced, changed):
        """Gives a variable its next value in the rows of some objectives."""
        shape = (-1,) + (1,) * (len(variable.shape) - 1)
        old = ops.convert_to_tensor(variable)
        new = ops.cast(advanced, variable.dtype)
        variable.assign(ops.where(ops.reshape(changed, shape), new, old))

    def get_build_config(self):
        config = super().get_build_config()
        return config and {**config, "row_sizes": self.row_sizes}

    def build_from_config(self, config):
        if config and config.get("row_sizes") is not None:
            self.row_sizes = tuple(config["row_sizes"])
        super().build_from_config(config)


def row_sizes(variables):
    return tuple(math.prod(variable.shape) for variable in variables)
