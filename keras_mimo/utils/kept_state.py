import contextlib
import warnings

import keras
from keras import ops

from keras_mimo import gradients


class KeptState(keras.layers.Layer):
    """A layer whose state is saved with a model of which it is no layer.

    What it computes with is `float32`, whatever the dtype policy.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    @contextlib.contextmanager
    def _state_changes_if(self, keep):
        """Undoes what happens to the state unless `keep`, a scalar tensor."""
        if gradients.surely(keep):
            yield
            return
        variables = self.non_trainable_weights
        # Copies: PyTorch assigns in place.
        before = [ops.copy(v) for v in variables]
        yield
        for variable, value in zip(variables, before, strict=True):
            variable.assign(
                ops.where(keep, ops.convert_to_tensor(variable), value)
            )

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras does not save the state of random number generators.
        for index, generator in enumerate(self._seed_generators):
            store[f"seed_{index}"] = generator.state

    def load_own_variables(self, store):
        # A file written without this layer holds nothing for it.
        if not store.keys():
            return
        if not self.built:
            # Keras would drop the state, and its own error too.
            warnings.warn(
                f"The state of {type(self).__name__} was not loaded, since it "
                "is not built: call `evaluate()` on a batch first, or load a "
                "`.keras` file.",
                stacklevel=2,
            )
            return
        store = {key: store[key] for key in store.keys()}
        for index, generator in enumerate(self._seed_generators):
            if f"seed_{index}" in store:
                generator.state.assign(store.pop(f"seed_{index}"))
        super().load_own_variables(store)
