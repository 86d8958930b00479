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
    the sum, which computes the same outputs, is the median over rounds of the
    difference of two times of one round, in units of the sum's: a machine that
    has more to do meanwhile slows both. (A method that has to see validation
    data does, and so does then the sum: that batch is none of the difference.
    One with a `build` of its own is timed beside the sum on the `build` of
    all.)

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
            Dict of the seconds of a step of the sum, of how many times those
            the step of the method takes more, and of the quartiles of that.
        """
        if self._plain is None:
            self._plain = self._model(SUM)
        validate = given.get("validate", False)
        turns = [
            (self._plain, False),
            (self._plain, validate),
            (self._model(given), validate),
        ]
        # The first time everything is compiled.
        for steps in (2, 3):
            seconds = [self._seconds(*turn, steps) for turn in turns]
        steps = int(np.clip(_SECONDS / max(seconds), 1, _MAX_STEPS))
        rounds = np.array(
            [
                [self._seconds(*turn, steps) for turn in turns]
                for _ in range(_ROUNDS)
            ]
        )
        plain, same, own = rounds.T
        low, more, high = np.quantile((own - same) / plain, [0.25, 0.5, 0.75])
        return {
            "plain": float(np.median(plain)),
            "more": float(more),
            "quartiles": [float(low), float(high)],
        }

    def _model(self, given):
        keras.utils.set_random_seed(0)
        return made(self._setup.build, self._setup.compile, given)

    def _seconds(self, model, validate, steps):
        options = {"verbose": 0}
        if validate:
            options["validation_data"] = _Repeated(self._batch, 1)
        data = _Repeated(self._batch, steps)
        start = time.perf_counter()
        model.fit(data, **options)
        return (time.perf_counter() - start) / steps


def in_seconds(time, plain):
    """Times of a step where the sum takes some seconds.

    Args:
        time: Dict, what a `StepClock` returned.
        plain: Float: the seconds of the sum, the same for all methods.
    """
    return {
        "seconds": plain * (1 + time["more"]),
        "more": plain * time["more"],
        "quartiles": [plain * quartile for quartile in time["quartiles"]],
    }


class _Repeated(keras.utils.PyDataset):
    def __init__(self, batch, times):
        super().__init__()
        self._batch = batch
        self._times = times

    def __len__(self):
        return self._times

    def __getitem__(self, index):
        return self._batch
