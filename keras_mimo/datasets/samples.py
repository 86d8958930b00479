import math

import keras
import numpy as np

from keras_mimo.utils.arguments import check_units


class Samples(keras.utils.PyDataset):
    """Samples with several modalities, each read when its batch is.

    What the loaders of the benchmarks return. No more is in memory than the
    labels and the batches that are being read.

    Args:
        read: Function of the number of a sample, from 0, that returns its
            modalities: a dict of arrays, of the same shapes for every sample.
            With `use_multiprocessing` it must be picklable.
        labels: Array with one entry per sample.
        batch_size: Positive integer. Defaults to `32`.
        shuffle: Boolean. Whether each epoch has an order of its own. (`fit()`
            shuffles whole batches only.) Defaults to `False`.
        seed: Integer, decides the orders. Defaults to `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Attributes:
        labels: As given, `(samples, ...)`.
        epoch: Integer, how often Keras has said that an epoch ended (it may do
            so once to build a model). It decides the order: a new run that goes
            on at `initial_epoch` sets it to that, and sees what the first one
            would have seen, with `fit(shuffle=False)`.

    Returns of `samples[i]`:
        Tuple of a dict of arrays of shape `(batch, ...)` and of the labels of
        the batch. The last batch may be smaller.

    Example:

    ```python
    train = keras_mimo.datasets.Samples(
        lambda i: {"image": images[i], "sound": sounds[i]}, labels, shuffle=True
    )
    model.fit(train, epochs=10)
    ```
    """

    def __init__(
        self, read, labels, batch_size=32, shuffle=False, seed=0, **kwargs
    ):
        super().__init__(**kwargs)
        if not callable(read):
            raise TypeError(
                "`read` must be a function of the number of a sample. "
                f"Received: read={read} of type {type(read)}"
            )
        self.read = read
        self.labels = np.asarray(labels)
        if not self.labels.ndim or not len(self.labels):
            raise ValueError(
                "`labels` must have an entry for each of at least one sample. "
                f"Received: labels of shape {self.labels.shape}"
            )
        self.batch_size = check_units("batch_size", batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    @property
    def epoch(self):
        return self._epoch

    @epoch.setter
    def epoch(self, epoch):
        self._epoch = epoch
        self._order = np.arange(len(self.labels))
        if self.shuffle:
            random = np.random.default_rng((self.seed, epoch))
            self._order = random.permutation(self._order)

    def subset(self, indices):
        """Only some of the samples, such as those of a long tail.

        Args:
            indices: Integers, the numbers of the samples to keep.

        Returns:
            `Samples` with the same options.
        """
        indices = np.asarray(indices)
        return Samples(
            _Chosen(self.read, indices),
            self.labels[indices],
            self.batch_size,
            self.shuffle,
            self.seed,
            workers=self.workers,
            use_multiprocessing=self.use_multiprocessing,
            max_queue_size=self.max_queue_size,
        )

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        chosen = self._order[start : start + self.batch_size]
        if index < 0 or not len(chosen):
            raise IndexError(f"There is no batch {index} of {len(self)}")
        samples = [self.read(int(i)) for i in chosen]
        x = {name: np.stack([s[name] for s in samples]) for name in samples[0]}
        return x, self.labels[chosen]

    def on_epoch_end(self):
        self.epoch += 1


class _Chosen:
    """What reads a sample of a subset; a class, so that it can be pickled."""

    def __init__(self, read, indices):
        self.read = read
        self.indices = indices

    def __call__(self, index):
        return self.read(int(self.indices[index]))
