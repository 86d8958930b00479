import contextlib

import keras
import numpy as np
from keras import ops

from keras_mimo import gradients
from keras_mimo.callbacks.labelled_batches import LabelledBatches
from keras_mimo.callbacks.labelled_batches import num_samples
from keras_mimo.combiners.gblending import GBlendingCombiner
from keras_mimo.combiners.gblending import blending_weights
from keras_mimo.utils.arguments import check_units

MODES = ("online", "offline")


class GradientBlending(keras.callbacks.Callback):
    """Measures how each objective generalises, and weighs them by it.

    Gradient-Blending, for a model that is compiled with
    `combiner="gblending"`. Before epoch `N`, for the fused output and for each
    modality, the network up to that output alone is trained for `n = epochs`
    epochs on its own loss, from the model as it is. With mean losses `L_T` on
    the training and `L_V` on the validation data before and after,

    - `G = L_V(N) - L_V(N+n)` is what it gained,
    - `O = [L_V - L_T](N+n) - [L_V - L_T](N)` by how much it overfitted,

    and its weight is `G / O**2`, divided by the sum over all. (What `G < 0` and
    a small `O` do is told at `keras_mimo.combiners.gblending`.) After each of
    these runs the model is put back as it was, to the last bit: weights,
    optimizer, random seeds and metrics.

    With K objectives, online training takes `1 + K * epochs / super_epoch`
    times as long, and the losses on all data are computed `K + 1` times each
    time. The runs take the optimizer, and its learning rate, as they find it.

    The orders of arrays in the runs depend on `seed` and `epoch` alone, so that
    a run that is resumed is the same. A dataset that shuffles itself is read by
    the runs too: `fit()` on the same dataset sees other orders than without.
    The `class_weight` of `fit()` has no part: give sample weights. Where
    several processes share the training, give all of them the same data here.

    Args:
        train: The training data: a tuple `(x, y)` or `(x, y, sample_weight)` of
            arrays, or a dataset of such batches that comes to an end.
        validation: Held-out data in the same form, not the test data.
        super_epoch: Positive integer, after how many epochs weights are
            measured again. Defaults to `10`, the first super-epoch of the
            paper; its others have 5.
        epochs: Positive integer, how long an objective is trained alone.
            Defaults to `5`. (In the paper it is the super-epoch's length.)
        mode: `"online"`: before epoch 0 and every super-epoch. `"offline"`:
            before epoch 0 only. Defaults to `"online"`.
        batch_size: Positive integer, for arrays. Give that of `fit()`. Defaults
            to `32`.
        seed: Non-negative integer, of the order of arrays. Defaults to `0`.

    Attributes:
        history: List of dicts, one each time: the `"epoch"` before which it
            was; `"train_before"`, `"val_before"`, `"train_after"` and
            `"val_after"`, the losses; and `"weights"`; each but the first an
            array in the order of the combiner's `objective_names`.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is invalid; in `fit()`, if the combiner of
            the model is no `GBlendingCombiner`.

    Example:

    ```python
    model.compile("adam", loss, combiner="gblending")
    blending = keras_mimo.callbacks.GradientBlending(
        (x, y), (x_validation, y_validation), super_epoch=10, epochs=5
    )
    model.fit(x, y, epochs=30, callbacks=[blending])
    ```

    Reference:

    - [What Makes Training Multi-Modal Classification Networks Hard?](
        https://arxiv.org/abs/1905.12681)
    """

    def __init__(
        self,
        train,
        validation,
        super_epoch=10,
        epochs=5,
        mode="online",
        batch_size=32,
        seed=0,
    ):
        super().__init__()
        batch_size = check_units("batch_size", batch_size)
        self.train = LabelledBatches("train", train, batch_size)
        self.validation = LabelledBatches("validation", validation, batch_size)
        self.super_epoch = check_units("super_epoch", super_epoch)
        self.epochs = check_units("epochs", epochs)
        if mode not in MODES:
            raise ValueError(
                f"`mode` must be one of {MODES}. Received: mode={mode!r}"
            )
        self.mode = mode
        self.seed = check_units("seed", seed, positive=False)
        self.history = []

    def on_train_begin(self, logs=None):
        combiner = getattr(self.model, "combiner", None)
        if not isinstance(combiner, GBlendingCombiner):
            raise ValueError(
                "`GradientBlending` needs a model that is compiled with "
                f'`combiner="gblending"`. Received: combiner={combiner}'
            )
        gradients.engine().agree(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        online = self.mode == "online" and epoch % self.super_epoch == 0
        if epoch == 0 or online:
            measured = self._measure(epoch)
            weights = blending_weights(**measured)
            self.model.combiner.set_blend(weights)
            gradients.engine().agree(self.model)
            self.history.append(
                {"epoch": epoch, **measured, "weights": weights}
            )

    def _measure(self, epoch):
        """The losses before and after training each objective alone."""
        combiner = self.model.combiner
        count = len(combiner.objective_names)
        after = np.empty((2, count))
        with _restored(self.model):
            before = self._losses()
        for k in range(count):
            with _restored(self.model):
                combiner.set_blend(np.eye(count)[k])
                self._train(np.random.default_rng([self.seed, epoch, k]))
                after[:, k] = self._losses()[:, k]
        return dict(
            train_before=before[0],
            val_before=before[1],
            train_after=after[0],
            val_after=after[1],
        )

    def _train(self, rng):
        _set_mode(self.model, training=True)
        for _ in range(self.epochs):
            for batch in self.train(rng):
                self.model.train_on_batch(*batch)

    def _losses(self):
        """Mean losses on training and on validation data, `(2, K)`.

        Not by `evaluate()`: on PyTorch it draws random numbers, and `fit()`
        would shuffle in another order.
        """
        _set_mode(self.model, training=False)
        return np.array([self._mean(d) for d in (self.train, self.validation)])

    def _mean(self, data):
        names = self.model.combiner.objective_names
        total, count = np.zeros(len(names)), 0
        for x, y, sample_weight in data():
            # Keras 3.12 goes on with the means of the batches before.
            self.model.reset_metrics()
            logs = self.model.test_on_batch(
                x, y, sample_weight, return_dict=True
            )
            size = num_samples(x)
            total += size * np.array([logs[f"{name}_loss"] for name in names])
            count += size
        return total / count


@contextlib.contextmanager
def _restored(model):
    """Puts all of a model's state back as it was."""
    variables = [
        *model.variables,
        *model.optimizer.variables,
        *model.metrics_variables,
    ]
    # Copies: PyTorch assigns in place, and JAX gives buffers away.
    values = [np.array(ops.convert_to_numpy(v)) for v in variables]
    try:
        with gradients.engine().forked_random_state():
            yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _set_mode(model, training):
    """Tells PyTorch's own layers, as `fit()` does and `*_on_batch()` not."""
    if keras.config.backend() == "torch":
        model.train(training)
