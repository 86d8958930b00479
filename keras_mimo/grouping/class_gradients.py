import functools

import keras
import numpy as np
from keras import ops

from keras_mimo import gradients
from keras_mimo.grouping.backbone import gradient_variables
from keras_mimo.grouping.batches import Batches
from keras_mimo.grouping.exact_rows import ExactRows
from keras_mimo.grouping.per_sample_loss import PerSampleLoss
from keras_mimo.grouping.sketched_rows import SketchedRows


def class_gramian(
    model,
    dataset,
    num_classes,
    loss=None,
    variables=None,
    max_memory=2**30,
    projection=None,
    seed=0,
    batch_size=128,
    verbose="auto",
):
    """Inner products of the gradients of all classes.

    The gradient of a class is that of the mean loss of its samples, with the
    model in inference mode. No state of the model changes.

    One row of gradients per class would take `num_classes` times the memory of
    the model. Instead the data are read several times, each time for as many
    coordinates of the gradients as fit in `max_memory`; or once, with
    `projection`.

    A batch costs one forward and one backward pass for every class in it.
    Arrays are read class by class, which is far cheaper than in a shuffled
    order.

    Args:
        model: A built `keras.Model`.
        dataset: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a
            finite iterable of such batches: `tf.data.Dataset`,
            `keras.utils.PyDataset`, `torch.utils.data.DataLoader` or any other.
            `x` may be nested; `y` holds class ids or one-hot rows. Losses are
            multiplied by sample weights. It must give the same samples each
            time that it is read.
        num_classes: Integer.
        loss: Name of a loss, `keras.losses.Loss`, or function of the labels and
            of the model's outputs that returns the loss of every sample.
            Whatever its reduction, it is not reduced. Defaults to the compiled
            loss of the model, or to sparse categorical cross-entropy from
            logits if there is none.
        variables: List of variables, of their paths or of their indices in
            `model.weights`, or a function of a variable that returns a boolean:
            the variables over which gradients are compared. Defaults to all
            trainable ones apart from the classifier head, the last layer with
            weights.
        max_memory: Integer, the bytes for the gradients of all classes. A
            gradient of the model, and the result, come on top.
        projection: Integer, the number of dimensions to which gradients are
            projected at random, a few thousand. The inner products are then
            estimates without bias, and the standard error of a cosine is about
            `1 / sqrt(projection)`. Defaults to `None`: exact.
        seed: Integer, of the random projection.
        batch_size: Integer, for arrays.
        verbose: `"auto"`, 0, 1 or 2, as in `fit()`.

    Returns:
        Tuple `(gramian, counts)`: an array `(num_classes, num_classes)` of
        float64, zero for classes without samples, and an array `(num_classes,)`
        with the number of samples of each class.

    Raises:
        TypeError: If `variables` is of the wrong type.
        ValueError: If an argument or a label is invalid; if the classifier head
            can't be told; or if `dataset` has to be read several times, and
            can be read only once.

    Reference:

    - [GBG, 2023](https://arxiv.org/abs/2310.20490)
    """
    _check_positive("num_classes", num_classes)
    _check_positive("max_memory", max_memory)
    _check_positive("batch_size", batch_size)
    batches = Batches(dataset, num_classes, batch_size)
    variables = gradient_variables(model, variables)
    sizes = [int(np.prod(v.shape, dtype="int64")) for v in variables]
    if projection is None:
        rows = ExactRows(num_classes, sizes, max_memory)
    else:
        _check_positive("projection", projection)
        rows = SketchedRows(num_classes, sizes, max_memory, projection, seed)
    if rows.num_passes > 1 and not batches.repeatable:
        raise ValueError(
            "`dataset` must be read once for each of "
            f"{rows.num_passes} parts of the gradients, and is an iterator, "
            "which can be read only once. Raise `max_memory`, choose fewer "
            "`variables`, give a `projection`, or pass a dataset instead of "
            f"its iterator. Received: dataset={dataset}"
        )
    per_sample_loss = PerSampleLoss(model, loss)

    def weighted_loss(given, y_pred):
        *labels, weights = given
        losses = per_sample_loss(labels, y_pred)
        return [ops.sum(losses * ops.cast(weights, losses.dtype))], None

    @functools.cache
    def gradient_function(indices):
        chosen = [variables[index] for index in indices]
        compute = gradients.engine().loss_gradients(
            model, weighted_loss, chosen
        )

        def gradient(*batch):
            x, *given = batch
            (found,), _ = compute(x, given)
            return [
                np.zeros(variable.shape, "float32") if value is None else value
                for value, variable in zip(found, chosen, strict=True)
            ]

        return gradient

    gramian = np.zeros((num_classes, num_classes))
    progress = _Progress(batches, rows.num_passes, verbose)
    counts = None
    for index in range(rows.num_passes):
        gradient = gradient_function(rows.begin(index))
        read = _add_class_gradients(rows, gradient, progress, num_classes)
        if counts is not None and (read != counts).any():
            raise ValueError(
                "`dataset` must give the same samples each time that it is "
                f"read. Received: {counts.sum()} samples the first time, then "
                f"{read.sum()}"
            )
        counts = read
        gramian += rows.gramian()
    progress.finish()
    if not counts.any():
        raise ValueError("`dataset` must hold samples. Received: none")
    scale = 1.0 / np.maximum(counts, 1)
    return gramian * scale * scale[:, None], counts


def _add_class_gradients(rows, gradient, batches, num_classes):
    """Reads the data once. Returns the number of samples of each class."""
    counts = np.zeros(num_classes, dtype="int64")
    for x, y, ids, sample_weight in batches:
        counts += np.bincount(ids, minlength=num_classes)
        for class_id in np.unique(ids):
            values = gradient(x, y, ids, sample_weight * (ids == class_id))
            arrays = [ops.convert_to_numpy(v) for v in values]
            # Sums of half precision would lose the smaller terms.
            arrays = [a.astype("float32", copy=False) for a in arrays]
            rows.add(class_id, arrays)
    return counts


class _Progress:
    """Batches that move a progress bar on, over several readings of them."""

    def __init__(self, batches, num_passes, verbose):
        try:
            target = num_passes * len(batches)
        except TypeError:
            target = None
        self._batches = batches
        self._done = 0
        verbose = 1 if verbose == "auto" else verbose
        self._bar = keras.utils.Progbar(target, verbose=verbose)

    def __iter__(self):
        for batch in self._batches:
            yield batch
            self._done += 1
            self._bar.update(self._done, finalize=False)

    def finish(self):
        self._bar.update(self._done, finalize=True)


def _check_positive(argument, value):
    if value < 1:
        raise ValueError(
            f"`{argument}` must be positive. Received: {argument}={value}"
        )
