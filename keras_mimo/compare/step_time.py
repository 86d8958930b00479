import time

import keras
import numpy as np

from keras_mimo.compare.data import first_batch
from keras_mimo.compare.methods import SUM
from keras_mimo.compare.methods import made

# Long enough for the clock, short enough to take turns.
_SECONDS = 0.1
_MAX_STEPS = 50
_ROUNDS = 9


class StepClock:
    """Times the training steps of methods, each in turn with that of the sum.

    A step is one of `fit()` without callbacks, on the first batch of the
    training data, after everything is compiled. What a method takes more than
    the sum, which computes the same outputs, is the median difference of two
    times of one round.

    Args:
        setup: `Setup`.
    """

    def __init__(self, setup):
        self._setup = setup
        size = setup.fit.get("batch_size") or 32
        self._batch = first_batch(setup.train, size)
        self._plain = None

    def __call__(self, given):
        """Times a method.

        Returns:
            Dict of the seconds of a step, those more than the sum's, and their
            quartiles.
        """
        if self._plain is None:
            self._plain = self._model(SUM)
        model = self._model(given)
        seconds = [self._seconds(m, 3) for m in (self._plain, model)]
        steps = int(np.clip(_SECONDS / max(seconds), 1, _MAX_STEPS))
        rounds = np.array(
            [
                [self._seconds(m, steps) for m in (self._plain, model)]
                for _ in range(_ROUNDS)
            ]
        )
        more = rounds[:, 1] - rounds[:, 0]
        return {
            "seconds": float(np.median(rounds[:, 1])),
            "more": float(np.median(more)),
            "quartiles": np.quantile(more, [0.25, 0.75]).tolist(),
        }

    def _model(self, given):
        keras.utils.set_random_seed(0)
        model = made(self._setup.build, self._setup.compile, given)
        # Compiles everything.
        self._seconds(model, 2)
        return model

    def _seconds(self, model, steps):
        data = _Repeated(self._batch, steps)
        start = time.perf_counter()
        model.fit(data, verbose=0)
        return (time.perf_counter() - start) / steps


class _Repeated(keras.utils.PyDataset):
    def __init__(self, batch, times):
        super().__init__()
        self._batch = batch
        self._times = times

    def __len__(self):
        return self._times

    def __getitem__(self, index):
        return self._batch
