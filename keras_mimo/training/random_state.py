import keras


class RandomState(keras.layers.Layer):
    """Saves the state of a model's random number generators, as Keras does not.

    With it a model with dropout that is loaded draws what it would have drawn
    had it not been saved. `save()` finds it as an attribute of the model.

    Args:
        states: Function without arguments that returns the state variables of
            the model's `keras.random.SeedGenerator`s.
    """

    def __init__(self, states):
        super().__init__()
        self._states = states

    def save_own_variables(self, store):
        for index, state in enumerate(self._states()):
            store[str(index)] = state

    def load_own_variables(self, store):
        states = self._states()
        # A file of another architecture, or of plain Keras, has no such state.
        if len(store.keys()) == len(states):
            for index, state in enumerate(states):
                state.assign(store[str(index)])
