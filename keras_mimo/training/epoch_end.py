import keras


class EpochEnd(keras.callbacks.Callback):
    """Checks the labels of an epoch, and tells of its ends who is to know."""

    def on_epoch_begin(self, epoch, logs=None):
        if self.model._modulated is not None:
            self.model._modulated.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.model.objectives.check_batches()
        self.model.combiner.on_epoch_end()
        if self.model._modulated is not None:
            self.model._modulated.on_epoch_end(epoch, logs or {})


def with_epoch_end(callbacks, model):
    """The `callbacks` of `fit()` with an `EpochEnd` in front.

    In front, so that a checkpoint at the end of the epoch is of the state that
    the next one starts with.
    """
    epoch_end = EpochEnd()
    if isinstance(callbacks, keras.callbacks.CallbackList):
        epoch_end.set_model(model)
        known = [c for c in callbacks.callbacks if not isinstance(c, EpochEnd)]
        callbacks.callbacks = [epoch_end, *known]
        return callbacks
    if callbacks is None:
        return [epoch_end]
    if isinstance(callbacks, keras.callbacks.Callback):
        return [epoch_end, callbacks]
    return [epoch_end, *callbacks]
