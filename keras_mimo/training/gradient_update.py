import dataclasses
from typing import Any

import numpy as np
from keras import ops

from keras_mimo import gradients
from keras_mimo.utils._keras import scale_loss_for_distribution


@dataclasses.dataclass
class GradientUpdate:
    """How the gradients of one training step become one update.

    Args:
        balanced: The model's `CompiledObjectives`.
        pullback: The gradients, as in `keras_mimo.gradients`.
        losses: Tensor of shape `(K,)`, of the whole batch.
        active: Boolean tensor of shape `(K,)`.
        scale: What the loss scaling of the optimizer multiplied gradients by.
        factor: Scalar, what an overridden `compute_loss()` multiplies the
            objectives by, or `None`.
        blocks: List of blocks of variables, each a list of indices.
        others: List of the indices of the variables that are in no block.
        parts: List of lists of the indices in blocks: of which the gradients of
            all objectives are in memory at a time. One is all of them.
        overwritten: List of the indices of variables whose "gradient" is their
            next value, as those of float8 layers have it.
        blockwise: Whether each block has weights of its own.
        gradients_at: Name of the layer at whose output gradients are compared,
            or `None`.
    """

    balanced: Any
    pullback: Any
    losses: Any
    active: Any
    scale: Any
    factor: Any
    blocks: list
    others: list
    parts: list
    overwritten: list
    blockwise: bool
    gradients_at: str | None

    def __call__(self):
        """Returns one gradient per variable, `None` where there is none."""
        combiner = self.balanced.combiner
        if combiner.needs == "gradients":
            combined = self._per_coordinate()
        elif combiner.is_periodic():
            combined = gradients.engine().branch(
                combiner.due(), self._solved, self._kept, self.balanced.state
            )
        else:
            combined = self._solved()
        updates = gradients.update_gradients(
            self.pullback, [*self.blocks, self.others], combined, self.factor
        )
        if self.overwritten:
            values = self.pullback.weighted(self._plain(), self.overwritten)
            updates.update(zip(self.overwritten, values, strict=True))
        return [updates[index] for index in sorted(updates)]

    def _plain(self):
        """The weights of all losses where nothing is combined."""
        weights = ops.cast(self.active, "float32")
        if self.factor is not None:
            weights = weights * ops.cast(self.factor, "float32")
        return ops.append(weights, ops.ones((1,), dtype="float32"))

    def _solved(self):
        engine = gradients.engine()
        if self.gradients_at is not None:
            rows = self._rows_at_representation()
            gramian = rows.gramian(engine.gramian_of_samples)
            return self._weighted(self._weights([gramian], [rows.reached]))
        if self.balanced.combiner.keeps_rows:
            rows = gradients.block_rows(self.pullback, self.blocks)
            self._check_reach([block.reached for block in rows])
            return self._of_kept_rows(rows)
        if len(self.parts) > 1:
            gramians, reached = gradients.gramians_by_part(
                self.pullback, self.blocks, self.parts, engine.gramian_of_sums
            )
            self._check_reach(reached)
            return self._weighted(self._weights(gramians, reached))
        rows = gradients.block_rows(
            self.pullback, self.blocks, self.pullback.keep
        )
        reached = [block.reached for block in rows]
        self._check_reach(reached)
        gramians = [block.gramian(engine.gramian_of_sums) for block in rows]
        weights = self._weights(gramians, reached)
        combined = [
            block.weighted_sum(block_weights)
            for block, block_weights in zip(rows, weights, strict=True)
        ]
        return [*combined, self._weighted_others(weights)]

    def _of_kept_rows(self, rows):
        """As `_solved()`, by what the combiners make of the rows."""
        engine = gradients.engine()
        shown = []
        for combiner, block in zip(self.balanced.combiners, rows, strict=True):
            whole = engine.whole(block.matrices(combiner.row_sizes))
            active = self.active & ops.convert_to_tensor(block.reached)
            shown.append(combiner.show([m / self.scale for m in whole], active))
        weights = self.balanced.weights(
            self.losses,
            [sum(engine.gramian(m) for m in seen) for seen, _ in shown],
            [block.reached for block in rows],
            self.active,
        )

        def total(matrix, weights):
            # A matrix product may round float32 to TF32 on a GPU.
            weights = ops.cast(weights, matrix.dtype)[:, None]
            total = ops.sum(weights * matrix, axis=0) * self.scale
            return scale_loss_for_distribution(total)

        combined = [
            block.gradients([total(matrix, w) for matrix in weighted])
            for block, (_, weighted), w in zip(
                rows, shown, weights, strict=True
            )
        ]
        return [*combined, self._weighted_others(weights)]

    def _kept(self):
        return self._weighted(
            self.balanced.kept_weights(
                self.losses, self.active, len(self.blocks)
            )
        )

    def _weights(self, gramians, reached):
        return self.balanced.weights(
            self.losses,
            [gramian / self.scale / self.scale for gramian in gramians],
            reached,
            self.active,
        )

    def _rows_at_representation(self):
        rows = gradients.representation_rows(self.pullback)
        if not all(rows.reached):
            raise ValueError(
                "Every objective must depend on the output of the layer that "
                "`gradients_at` names. Received: "
                f"gradients_at={self.gradients_at!r}, on which these do not "
                f"depend: {self._missing(rows.reached)}"
            )
        return rows

    def _weighted(self, weights):
        combined = gradients.weighted_blocks(
            self.pullback, self.blocks, weights, self.parts
        )
        return [*combined, self._weighted_others(weights)]

    def _weighted_others(self, weights):
        if not self.others:
            return []
        (weights, *_) = weights
        if self.blockwise:
            # As without a combiner.
            weights = ops.cast(self.active, weights.dtype)
        return self.pullback.weighted(weights, self.others)

    def _per_coordinate(self):
        engine = gradients.engine()
        combiner = self.balanced.combiner
        weights = combiner(self.losses, active=self.active)

        def combine(matrix, objectives):
            (matrix,) = engine.whole([matrix])
            active = ops.take(self.active, objectives)
            combined = combiner.combine(matrix, active, training=True)
            return scale_loss_for_distribution(combined)

        combined = []
        for part in self.parts:
            pullback = self.pullback.after(combined)
            (rows,) = gradients.block_rows(pullback, [part])
            combined += rows.per_coordinate(combine)
            # Before the rows of the next part come.
            del rows
        return [combined, self._weighted_others([weights])]

    def _check_reach(self, reached):
        reached = np.array(reached)
        if not reached.any():
            raise ValueError(
                "No objective has a gradient with respect to any balanced "
                "variable. Check `balanced_variables` in `compile()` and the "
                "`trainable` attributes of the layers."
            )
        if not self.blockwise and self.others and not reached.all():
            raise ValueError(
                "Every objective must depend on one of the "
                "`balanced_variables`, for the combiner to know it. These do "
                f"not: {self._missing(reached[0])}"
            )

    def _missing(self, reached):
        names = self.balanced.objective.names
        return [n for n, there in zip(names, reached, strict=True) if not there]
