import math

import keras

from keras_mimo.training.balanced_variables import check_balanced_variables
from keras_mimo.training.balanced_variables import overwritten_variables
from keras_mimo.training.balanced_variables import resolve_balanced_variables
from keras_mimo.training.balanced_variables import saved_balanced_variables
from keras_mimo.training.blocks import check_blocks
from keras_mimo.training.blocks import resolve_blocks
from keras_mimo.training.blocks import saved_blocks


class GradientScope:
    """Where a combiner compares gradients, and how it comes by them.

    Over all trainable variables at once, over some of them, in each of several
    blocks of them, or at the output of a layer.

    Args:
        model: The model.
        balanced_variables: As in `BalancedModel.compile()`.
        blocks: As in `BalancedModel.compile()`.
        gradients_at: As in `BalancedModel.compile()`.
        gradient_parts: As in `BalancedModel.compile()`.
        vectorized: `vectorized_gradients` of `BalancedModel.compile()`.

    Attributes:
        blockwise: Whether there are several blocks.
        given: Whether any of the arguments is.
        balances_a_part: Whether `balanced_variables` is.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a value is invalid, or more than one argument is given.
    """

    def __init__(
        self,
        model,
        balanced_variables,
        blocks,
        gradients_at,
        gradient_parts=1,
        vectorized=False,
    ):
        check_balanced_variables(balanced_variables)
        check_blocks(blocks)
        if gradients_at is not None and not isinstance(gradients_at, str):
            raise TypeError(
                "`gradients_at` must be the name of a layer. Received: "
                f"gradients_at={gradients_at} of type {type(gradients_at)}"
            )
        _check_parts(gradient_parts)
        if not isinstance(vectorized, bool):
            raise TypeError(
                "`vectorized_gradients` must be a boolean. Received: "
                f"vectorized_gradients={vectorized!r}"
            )
        if gradient_parts > 1 and gradients_at is not None:
            raise ValueError(
                "`gradient_parts` divides gradients with respect to variables, "
                "of which `gradients_at` takes none. Received: "
                f"gradient_parts={gradient_parts}, gradients_at={gradients_at}"
            )
        self.blockwise = not isinstance(blocks, str) or blocks != "all"
        choices = (balanced_variables is not None, self.blockwise, gradients_at)
        self.given = any(map(bool, choices))
        if sum(map(bool, choices)) > 1:
            raise ValueError(
                "Only one of `balanced_variables`, `blocks` and `gradients_at` "
                "can be given. Received: "
                f"balanced_variables={balanced_variables}, blocks={blocks}, "
                f"gradients_at={gradients_at}"
            )
        self.balances_a_part = balanced_variables is not None
        self._model = model
        self._balanced_variables = balanced_variables
        self._blocks = blocks
        self.gradients_at = gradients_at
        self._gradient_parts = gradient_parts
        self.vectorized = vectorized
        if model.built:
            self.check()

    def check(self):
        """Raises `ValueError` unless the built model has what is named."""
        if self.gradients_at is not None:
            self.layer()
        else:
            self.variables()

    def variables(self):
        """Indices into the model's `trainable_weights`.

        Returns:
            List of blocks, each a list of int, and the list of the variables
            that are in no block. Those that their gradients overwrite are in
            neither.
        """
        if self.blockwise:
            blocks = list(resolve_blocks(self._blocks, self._model).values())
        else:
            balanced, _ = resolve_balanced_variables(
                self._balanced_variables, self._model
            )
            blocks = [balanced]
        overwritten = set(overwritten_variables(self._model))
        blocks = [[k for k in b if k not in overwritten] for b in blocks]
        taken = overwritten.union(*blocks)
        count = len(self._model.trainable_weights)
        return (
            [block for block in blocks if block],
            [k for k in range(count) if k not in taken],
        )

    def parts(self):
        """The indices of all blocks, in parts of about as many numbers.

        Neighbours stay together: a pass back to a part then takes no more of
        the model than what follows it.
        """
        blocks, _ = self.variables()
        indices = sorted(index for block in blocks for index in block)
        trainable = self._model.trainable_weights
        sizes = [math.prod(trainable[index].shape) for index in indices]
        total = max(sum(sizes), 1)
        parts, before = {}, 0
        for index, size in zip(indices, sizes, strict=True):
            # By where its middle is.
            place = (2 * before + size) * self._gradient_parts // (2 * total)
            parts.setdefault(place, []).append(index)
            before += size
        return list(parts.values())

    def block_variables(self):
        """The blocks, each a list of variables."""
        trainable = self._model.trainable_weights
        blocks, _ = self.variables()
        return [[trainable[index] for index in block] for block in blocks]

    def layer(self):
        """The layer at whose output gradients are compared."""
        layers = [
            layer
            for layer in self._model._flatten_layers(include_self=False)
            if layer.name == self.gradients_at
            and not isinstance(layer, keras.layers.InputLayer)
        ]
        if len(layers) != 1:
            names = [layer.name for layer in self._model.layers]
            raise ValueError(
                "`gradients_at` must be the name of one layer of the model, "
                "inputs apart. Received: "
                f"gradients_at={self.gradients_at!r}, which is the name of "
                f"{len(layers)} layers. The model's layers are {names}."
            )
        return layers[0]

    def saved(self):
        """The arguments of `compile()` in a form that can be saved."""
        return {
            "balanced_variables": saved_balanced_variables(
                self._balanced_variables, self._model
            ),
            "blocks": saved_blocks(self._blocks, self._model),
            "gradients_at": self.gradients_at,
        }


def _check_parts(parts):
    if isinstance(parts, bool) or not isinstance(parts, int):
        raise TypeError(
            "`gradient_parts` must be an integer. "
            f"Received: gradient_parts={parts!r} of type {type(parts)}"
        )
    if parts < 1:
        raise ValueError(
            "`gradient_parts` must be at least 1. "
            f"Received: gradient_parts={parts}"
        )
