"""Writing callbacks."""

import keras
import numpy as np
import pytest

from tests.keras_guides.common import BATCHES
from tests.keras_guides.common import SUMS
from tests.keras_guides.common import X
from tests.keras_guides.common import Y
from tests.keras_guides.common import as_keras_does
from tests.keras_guides.common import compiled
from tests.keras_guides.common import graph

# What the guides do with one model after the other takes long to compile.
pytestmark = pytest.mark.slow


class Own(keras.callbacks.Callback):
    """Changes the learning rate, and stops with the best weights so far."""

    def __init__(self):
        super().__init__()
        self.seen, self.best, self.kept = [], np.inf, None

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(sorted(logs))

    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = float(rate) * 0.5

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best, self.kept = logs["val_loss"], self.model.get_weights()
        if epoch == 2:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.model.set_weights(self.kept)


def train_with_callback(model, given):
    compiled(model, given)
    own = Own()
    history = model.fit(
        X, Y, epochs=9, validation_data=(X, Y), callbacks=[own], **BATCHES
    ).history
    assert len(history["loss"]) == 3 and len(own.seen) == 6
    assert {"loss", "a_loss", "b_loss"} <= set(own.seen[0])
    assert model.evaluate(X, Y, verbose=0)[0] == pytest.approx(own.best)
    rate = float(model.optimizer.learning_rate)
    return {**history, "learning_rate": rate, "best": own.best}


@pytest.mark.parametrize("combiner", SUMS)
def test_a_callback(combiner):
    as_keras_does(two_outputs, train_with_callback, combiner)


def two_outputs(base):
    return base(*graph())
