from keras import ops


class Rewind:
    """Runs code from the state that a model had, and returns to the present.

    The state is that of `Rewind(model)` without the trainable variables: what
    moves with every forward pass, such as the seeds of dropout, and metrics.

    Args:
        model: A `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        self._before = _values(model)

    def __enter__(self):
        self._now = _values(self._model)
        _assign(self._before)

    def __exit__(self, *exception):
        # Also what was created in between.
        _assign(self._now)


def _values(model):
    variables = model.non_trainable_variables + model.metrics_variables
    # Copies: PyTorch assigns in place.
    return [(v, ops.copy(v)) for v in variables]


def _assign(pairs):
    for variable, value in pairs:
        variable.assign(value)
