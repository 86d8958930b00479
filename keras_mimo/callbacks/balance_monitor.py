import itertools
import math

import keras
import numpy as np
from keras import tree

from keras_mimo.callbacks.kept_batches import kept_batches
from keras_mimo.callbacks.objective_gramians import ObjectiveGramians
from keras_mimo.callbacks.objective_gramians import lengths_and_cosines
from keras_mimo.plots.balance import balance_figure
from keras_mimo.utils.arguments import check_units

NAN = float("nan")


class BalanceMonitor(keras.callbacks.Callback):
    """Shows how the objectives of a model pull, and how its modalities learn.

    It changes nothing: a model is trained to the same weights with it and
    without, by any combiner or none. The logs of every epoch gain:

    - `balance/length/<block>/<objective>`: the length of an objective's
      gradient with respect to a block of variables: the encoder of a modality
      (see `MultimodalModel.encoder_variables`), or `shared`, those of all
      others that several objectives depend on;
    - `balance/cosine/<block>/<objective>/<objective>`: the cosine of the angle
      between two gradients there, below 0 where the objectives conflict;
    - `balance/gap/<objective>`: the loss in validation minus the loss in
      training, both as logged: how far a modality overfits. NaN without
      validation.

    A gradient is that of an objective's mean over a few batches, the same ones
    every time, with the model in inference mode and before a combiner or a
    modulation acts. An objective that does not depend on a block is left out
    there. TensorBoard shows all of this as one group, `epoch_balance`, and the
    progress bar of `fit(verbose=1)` at the end of each epoch. Callbacks that
    read logs, such as `CSVLogger`, come after this one.

    Cost: nothing in a training step. Each time, for every batch, one forward
    pass and K backward passes for K objectives (`benchmarks/monitor_cost.py`
    prints what that is in training steps), and the memory of K gradients of the
    model, of 2 K where there are several batches.

    Args:
        every: Positive integer: gradients are taken after the first epoch, and
            after every `every`-th epoch from there. They are NaN in the logs
            of the others. Defaults to `1`.
        batches: Positive integer, how many batches. Defaults to `4`.
        data: Training or held-out data: a tuple `(x, y)` or
            `(x, y, sample_weight)` of arrays, or a dataset of such batches:
            `tf.data.Dataset`, `keras.utils.PyDataset`,
            `torch.utils.data.DataLoader` or any other that comes to an end and
            can be read again. Of arrays it takes rows from everywhere; of a
            dataset the first batches, when training begins. (A
            `tf.data.Dataset` that shuffles draws another order each time that
            it is read: to read the one that is trained on here too has it
            trained on in another order.)
            Defaults to `None`: the `validation_data` of `fit()` or, without,
            the arrays that it is given to train on.
        batch_size: Positive integer, for arrays. Defaults to `32`.

    Attributes:
        history: Dict from the names in the logs, those of the weights of the
            objectives among them, to lists with an entry for each epoch;
            `"epoch"` holds the numbers of the epochs.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a number is not positive; when training begins, if there
            are no such data, or the model has no objectives (`combiner=None`,
            and no `MultimodalModel`) or overrides `compute_loss()`; and after
            an epoch, if there is just one objective.

    Example:

    ```python
    monitor = keras_mimo.callbacks.BalanceMonitor()
    model.fit(
        x, y, epochs=20, validation_data=held_out, callbacks=[monitor]
    )
    monitor.plot("balance.png")
    ```
    """

    def __init__(self, every=1, batches=4, data=None, batch_size=32):
        super().__init__()
        self.every = check_units("every", every)
        self.batches = check_units("batches", batches)
        self.batch_size = check_units("batch_size", batch_size)
        self.data = data
        self.history = {"epoch": []}
        self._gramians = None
        self._traced = None
        self._latest = {}

    def on_train_begin(self, logs=None):
        _check_model(self.model)
        data = self.data
        if data is None:
            data = _data_of_fit(self.model._given_to_fit)
        self._kept = kept_batches(data, self.batches, self.batch_size)
        self._first_epoch = None

    def on_epoch_end(self, epoch, logs=None):
        names = self.model.objectives.names
        if len(names) < 2:
            raise ValueError(
                "`BalanceMonitor` needs a model with several objectives. "
                f"Received: the objectives {names}"
            )
        if self._first_epoch is None:
            self._first_epoch = epoch
        due = (epoch - self._first_epoch) % self.every == 0
        if due:
            self._latest = self._measure()
        # In every epoch: `CSVLogger` has the columns of the first one.
        for name, value in _gradient_logs(self._latest, names).items():
            logs[name] = value if due else NAN
        for name in names:
            train = logs.get(f"{name}_loss", NAN)
            held_out = logs.get(f"val_{name}_loss", NAN)
            logs[f"balance/gap/{name}"] = float(held_out) - float(train)
        self._keep(epoch, logs, names)

    def cosines(self, block="shared"):
        """The cosines that were found last, for `plots.conflict_heatmap()`.

        Args:
            block: Name of a block of variables: a modality, or `"shared"`.

        Returns:
            Tuple of an array of shape `(K, K)`, and a list of the names of the
            K objectives that have a gradient there.

        Raises:
            ValueError: If there is no such block.
        """
        if block not in self._latest:
            raise ValueError(
                f"`block` must be one of {list(self._latest)}, of which "
                f"gradients were taken. Received: block={block!r}"
            )
        indices, gramian = self._latest[block]
        names = self.model.objectives.names
        lengths, cosines = lengths_and_cosines(gramian)
        there = np.flatnonzero(lengths > 0)
        return (
            cosines[np.ix_(there, there)],
            [names[indices[k]] for k in there],
        )

    def plot(self, path=None):
        """Draws all of it over the epochs.

        Args:
            path: Where to save the picture. Defaults to `None`: nowhere.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ImportError: Without matplotlib.
            ValueError: Before the end of the first epoch.
        """
        return balance_figure(self.history, path)

    def _measure(self):
        # Keras makes another whenever losses or variables are others.
        traced = self.model.train_function
        if self._gramians is None or self._traced is not traced:
            self._gramians = ObjectiveGramians(self.model)
            self._traced = traced
        return self._gramians(self._kept)

    def _keep(self, epoch, logs, names):
        found = {n: v for n, v in logs.items() if n.startswith("balance/")}
        weights = [f"{name}_weight" for name in names]
        found |= {name: logs[name] for name in weights if name in logs}
        self.history["epoch"].append(epoch)
        count = len(self.history["epoch"])
        for name in {**self.history, **found}:
            values = self.history.setdefault(name, [NAN] * (count - 1))
            if name != "epoch":
                values.append(float(found.get(name, NAN)))


def _gradient_logs(gramians, names):
    logs = {}
    for block, (indices, gramian) in gramians.items():
        lengths, cosines = lengths_and_cosines(gramian)
        own = [names[k] for k in indices]
        for name, length in zip(own, lengths, strict=True):
            logs[f"balance/length/{block}/{name}"] = float(length)
        for i, j in itertools.combinations(range(len(own)), 2):
            pair = f"{own[i]}/{own[j]}"
            logs[f"balance/cosine/{block}/{pair}"] = float(cosines[i, j])
    return logs


def _check_model(model):
    if getattr(model, "objectives", None) is None:
        raise ValueError(
            "`BalanceMonitor` needs a model with objectives: a "
            "`MultimodalModel`, or a `BalancedModel` that is compiled with a "
            "combiner (`SumCombiner()` trains it as Keras does without). "
            f"Received: model={model}"
        )
    if model._overrides_loss:
        raise ValueError(
            "`BalanceMonitor` takes the gradients of the objectives that a "
            "model is compiled with, and can't where `compute_loss()` is the "
            f"user's own. Received: {type(model).__name__}"
        )


def _data_of_fit(given):
    """The validation data of `fit()`, or else the arrays to train on."""
    validation = given.get("validation_data")
    if isinstance(validation, list):
        return tuple(validation)
    if validation is not None:
        return validation
    x, y = given.get("x"), given.get("y")
    if y is None:
        raise ValueError(
            "`data` must be given to `BalanceMonitor` where `fit()` has no "
            "`validation_data` and trains on a dataset. Received: data=None"
        )
    arrays = (x, y, given.get("sample_weight"))
    split = given.get("validation_split") or 0.0

    def held_out(leaf):
        if leaf is None:
            return None
        leaf = np.asarray(leaf)
        return leaf[math.floor(len(leaf) * (1.0 - split)) :]

    return tree.map_structure(held_out, arrays) if split else arrays
