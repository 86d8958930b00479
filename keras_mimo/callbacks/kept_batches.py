import contextlib
import itertools
import random
import sys

import numpy as np

from keras_mimo.callbacks.labelled_batches import LabelledBatches
from keras_mimo.callbacks.labelled_batches import num_samples


def kept_batches(data, number, batch_size):
    """A few batches, to be looked at again and again.

    Of arrays, of rows from everywhere, and all of the same size; of a dataset,
    the first ones. Nothing else draws other random numbers because of it.

    Args:
        data: As in `BalanceMonitor`.
        number: Integer, how many batches at most.
        batch_size: Integer, for arrays.

    Returns:
        List of tuples `(x, y, sample_weight)`.

    Raises:
        TypeError: If `data` is no arrays and no dataset.
        ValueError: If it holds no batch with labels, or can't be read again.
    """
    batches = LabelledBatches("data", data, batch_size)
    # Arrays may be sorted by class.
    shuffled = batches(np.random.default_rng(0))
    with _same_draws():
        found = list(itertools.islice(shuffled, number))
    if not found:
        raise ValueError(
            f"`data` must hold at least one batch. Received: data={data}"
        )
    if isinstance(data, tuple):
        # What is left of them would count as much as a whole batch.
        largest = num_samples(found[0][0])
        found = [batch for batch in found if num_samples(batch[0]) == largest]
    return found


@contextlib.contextmanager
def _same_draws():
    """Draws from generators that all share are forgotten.

    An epoch is shuffled by them, and a dataset that is read may draw.
    """
    states = random.getstate(), np.random.get_state()
    # Also on other backends a `DataLoader` draws from it.
    torch = sys.modules.get("torch")
    of_torch = torch and torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(of_torch)
