import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo import gradients
from keras_mimo.gradients.flat import FlatRows
from keras_mimo.training.balanced_variables import overwritten_variables

SHARED = "shared"


class ObjectiveGramians:
    """Inner products of the gradients of a model's objectives.

    A gradient is that of an objective's mean over batches, in inference mode.
    Nothing of the model changes.

    Args:
        model: A built `BalancedModel` that has been trained for a step.
    """

    def __init__(self, model):
        self._model = model
        self._variables = _variables(model)
        self._compute = gradients.engine().loss_gradients(
            model, self._losses, self._variables
        )

    def __call__(self, batches):
        """Computes the Gramian of each block of variables.

        Args:
            batches: List of tuples `(x, y, sample_weight)`.

        Returns:
            Dict from the name of a block to a tuple of the objectives that
            depend on it, a list of their indices, and of their Gramian, an
            array of float64, NaN for objectives that no batch has data for.
        """
        scale = self._model.optimizer.scale_loss(ops.ones(()))
        scale = np.float32(ops.convert_to_numpy(scale))
        sums, counts = {}, {}
        # What metrics, and layers that count, assign goes with the scope.
        with keras.StatelessScope():
            for x, y, sample_weight in batches:
                rows, active = self._compute(x, (y, sample_weight, scale))
                active = ops.convert_to_numpy(active)
                for k, row in enumerate(rows):
                    counts[k] = counts.get(k, 0) + int(active[k])
                    sums[k] = _add(sums.get(k), row, active[k])
        blocks = self._blocks(sums.values())
        return {
            name: self._gramian(indices, sums, counts, scale)
            for name, indices in blocks.items()
        }

    def _losses(self, given, y_pred):
        y, sample_weight, scale = tree.map_structure(
            lambda leaf: None if leaf is None else ops.convert_to_tensor(leaf),
            given,
        )
        losses, active = self._model.objectives(y, y_pred, sample_weight)
        # Half precision loses what is small.
        return [loss * ops.cast(scale, loss.dtype) for loss in losses], active

    def _blocks(self, rows):
        """Indices of the variables of each encoder, and of what is shared."""
        places = {id(v): index for index, v in enumerate(self._variables)}
        encoders = getattr(self._model, "encoder_variables", {})
        blocks = {
            name: [places[id(v)] for v in variables if id(v) in places]
            for name, variables in encoders.items()
        }
        taken = {index for indices in blocks.values() for index in indices}
        columns = enumerate(zip(*rows, strict=True))
        shared = [
            index
            for index, column in columns
            if index not in taken and sum(g is not None for g in column) > 1
        ]
        name = SHARED if SHARED not in blocks else f"{SHARED}_variables"
        blocks[name] = shared
        return {name: indices for name, indices in blocks.items() if indices}

    def _gramian(self, indices, sums, counts, scale):
        rows = FlatRows([[row[i] for i in indices] for row in sums.values()])
        gramian = rows.gramian(gradients.engine().gramian)
        gramian = ops.convert_to_numpy(gramian).astype("float64")
        number = np.array([counts[k] or np.nan for k in sums]) * float(scale)
        kept = [k for k, reached in enumerate(rows.reached) if reached]
        return kept, (gramian / number / number[:, None])[np.ix_(kept, kept)]


def lengths_and_cosines(gramian):
    """The lengths of gradients, and the cosines of their angles.

    Args:
        gramian: Array of shape `(K, K)`.

    Returns:
        Two arrays of shapes `(K,)` and `(K, K)`. A cosine is NaN where a
        gradient is 0.
    """
    lengths = np.sqrt(np.diag(gramian))
    safe = np.where(lengths > 0, lengths, np.nan)
    return lengths, np.clip(gramian / safe / safe[:, None], -1, 1)


def _variables(model):
    """Trainable variables, without those that are no weights of layers."""
    skipped = {id(v) for v in model.combiner.trainable_weights}
    overwritten = set(overwritten_variables(model))
    return [
        variable
        for index, variable in enumerate(model.trainable_weights)
        if index not in overwritten and id(variable) not in skipped
    ]


def _add(total, row, active):
    if not active:
        # It may hold what is not finite.
        row = [None if g is None else ops.zeros_like(g) for g in row]
    if total is None:
        return row
    return [
        a if b is None else b if a is None else a + b
        for a, b in zip(total, row, strict=True)
    ]
