import numbers

import keras

from keras_mimo.grouping.clusters import check_method
from keras_mimo.objectives import ClassGroups


class RegroupClasses(keras.callbacks.Callback):
    """Finds the groups of `ClassGroups` while a model is trained.

    Before the first time all classes are in one group, and the model is trained
    as without a combiner: gradients of a network that has learnt nothing yet
    say little about its classes.

    The logs of every epoch gain `cosine_inside_groups` and
    `cosine_between_groups`: how well the classes of the groups in use agreed
    when these were found, NaN while all classes are in one group. Callbacks
    that read logs, such as `CSVLogger`, come after this one.

    Args:
        dataset: The training data, as in `ClassGroups.adapt()`.
        start: Non-negative integer, the epoch before which groups are found
            for the first time. Defaults to `5`, the warm-up epochs of GBG.
        every: Positive integer, the number of epochs after which they are found
            again, or `None`: never. Defaults to `None`, as in GBG.
        **options: Other arguments of `keras_mimo.grouping.find_groups()`.
            `method` defaults to that of `ClassGroups`.

    Attributes:
        history: List of tuples of an epoch and the `ClassGrouping` that was
            found before it.

    Raises:
        ValueError: If `start` or `every` is no such integer, if `method` is
            unknown or, when training begins, if the model's objective is not
            `ClassGroups`.

    Example:

    ```python
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        objectives=keras_mimo.objectives.ClassGroups(num_groups=4),
        combiner=keras_mimo.MGDACombiner(normalization="loss+"),
    )
    regroup = keras_mimo.callbacks.RegroupClasses((x, y), start=5, every=20)
    model.fit(x, y, epochs=100, callbacks=[regroup])
    ```
    """

    def __init__(self, dataset, start=5, every=None, **options):
        super().__init__()
        _check_integer("start", start, 0)
        if every is not None:
            _check_integer("every", every, 1)
        if "method" in options:
            check_method(options["method"])
        self.dataset = dataset
        self.start = start
        self.every = every
        self.options = {"verbose": 0, **options}
        self.history = []

    def on_train_begin(self, logs=None):
        objectives = getattr(self.model, "objectives", None)
        if not isinstance(objectives, ClassGroups):
            raise ValueError(
                "`RegroupClasses` needs a model that is compiled with "
                "`objectives=ClassGroups(...)`. "
                f"Received: objectives={objectives}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        late = epoch - self.start
        if late == 0 or (self.every and late > 0 and late % self.every == 0):
            grouping = self.model.objectives.adapt(
                self.model, self.dataset, **self.options
            )
            self.history.append((epoch, grouping))

    def on_epoch_end(self, epoch, logs=None):
        grouping = self._grouping_in_use()
        # In every epoch: `CSVLogger` has the columns of the first one.
        for name in ("cosine_inside_groups", "cosine_between_groups"):
            logs[name] = getattr(grouping, name, float("nan"))

    def _grouping_in_use(self):
        """`None` if the model's groups are not those that were found last."""
        if not self.history:
            return None
        _, grouping = self.history[-1]
        in_use = grouping.groups == self.model.objectives.groups
        return grouping if in_use else None


def _check_integer(argument, value, smallest):
    valid = isinstance(value, numbers.Integral) and value >= smallest
    if not valid or isinstance(value, bool):
        raise ValueError(
            f"`{argument}` must be an integer that is at least {smallest}. "
            f"Received: {argument}={value!r}"
        )
