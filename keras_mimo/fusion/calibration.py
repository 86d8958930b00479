import warnings

import keras
import numpy as np

from keras_mimo.fusion.fusion_calibration import FusionCalibration
from keras_mimo.fusion.held_out import check_model
from keras_mimo.fusion.held_out import check_outputs
from keras_mimo.fusion.held_out import check_weights
from keras_mimo.fusion.held_out import collect
from keras_mimo.fusion.scales import LOSSES
from keras_mimo.fusion.scales import fit_scales
from keras_mimo.fusion.scales import import_minimize
from keras_mimo.fusion.scores import scores
from keras_mimo.fusion.tasks import check_logits
from keras_mimo.fusion.tasks import check_task
from keras_mimo.fusion.tasks import missing_labels
from keras_mimo.fusion.tasks import targets

# How many samples the scales of the raw fused output count for.
_PULL = 10
_FEW = 10


def calibrate_fusion(
    model,
    x,
    y=None,
    sample_weight=None,
    bias=False,
    task=None,
    batch_size=None,
    verbose=1,
):
    """Fits the weight of each modality in the fused output to held-out data.

    Modalities that are sure of themselves on data that they have learnt by
    heart drown the others: a fused output can be worse than its best modality.
    From here on the fused output is a sum of outputs, each times a scale of at
    least 0, that has the smallest mean loss on data the model has not seen.
    Summed are the modalities where the fused output was the sum of their
    logits, and all outputs, the fused one among them, where it was anything
    else.

    The problem is convex and has one number an output: SciPy solves it
    (`pip install keras-mimo[calibration]`). The loss is the cross-entropy of
    the softmax, or of the sigmoid for several labels, or the squared error. A
    pull towards the fused output as it was, which counts as much as ten
    samples, keeps few data from saying too much.

    The model is changed in place, in inference only: `predict()`, `evaluate()`,
    `export()` and `keras_mimo.inference_model` give the calibrated output,
    training goes on as if it were not there. Weights stay. Calibrate again
    after further training, or after loading other weights. The scales are
    saved in `.keras` files; a clone has none.

    Hold data out that are as new as those to come: other people, days or
    places, if those will be. It warns where the data are those of training, as
    far as it can tell: if they are the dataset that the latest `fit()` was
    given, or arrays of which as many rows are found again. What was trained by
    other means, or before the model was loaded, it can't know. It warns, too,
    where there are fewer than ten samples for each number that is fitted, or
    fewer than classes.

    Args:
        model: A `MultimodalModel`, such as `keras_mimo.late_fusion` returns,
            the outputs of which are logits (or values, for a regression).
        x: Data held out from training: a dict of arrays, or a dataset of
            batches `(x, y)` or `(x, y, sample_weight)` (a
            `keras.utils.PyDataset`, a `tf.data.Dataset`, any iterable). It is
            read once, and only outputs and labels are kept.
        y: Labels, where `x` is arrays: class ids of shape `(samples,)` or
            `(samples, 1)`, one-hot rows or probabilities; rows of zeros and
            ones for several labels; values for a regression.
        sample_weight: Optional array of shape `(samples,)`, where `x` is
            arrays.
        bias: Boolean, whether to fit a bias for each class (or label or value)
            too. Defaults to `False`.
        task: `"classification"`, `"multilabel"` or `"regression"`. Defaults to
            `None`: as the loss tells that the model was compiled with.
        batch_size: Integer, where `x` is arrays. Defaults to `None`: that of
            `predict()`.
        verbose: Whether to print the scales, and log loss, accuracy and
            calibration error before and after. Defaults to `1`.

    Returns:
        A `FusionCalibration`, which is `model.calibration` too: the scales, the
        scores before and after, and `reset()`, which undoes it.

    Raises:
        ImportError: If SciPy is not installed.
        TypeError: If `model` is no `MultimodalModel`, or `x` is no data.
        ValueError: If labels, weights or outputs don't fit or are not finite,
            or if `task` is not known.

    Example:

    ```python
    model.fit(x_train, y_train)
    calibration = keras_mimo.calibrate_fusion(model, x_held_out, y_held_out)
    model.predict(x_test)["fused"]
    calibration.reset()
    ```
    """
    check_model(model)
    import_minimize()
    task = check_task(task, model)
    before, model.calibration = model.calibration, None
    try:
        calibration = _fitted(
            model, task, bias, (x, y, sample_weight, batch_size)
        )
    except BaseException:
        model.calibration = before
        raise
    model.calibration = calibration
    if verbose:
        print(calibration)
    return calibration


def _fitted(model, task, bias, data):
    recognizer = model._fitted_on.recognizer()
    outputs, labels, weights = collect(model, *data, look=recognizer.add)
    seen = model._fitted_on.is_dataset(data[0]) or recognizer.recognizes()
    check_outputs(outputs)
    check_logits(task, outputs["fused"])
    width = outputs["fused"].shape[1]
    wanted, absent = targets(task, labels, width, missing_labels(model))
    # Of a sample without any modality, too, there is nothing to learn.
    absent |= ~np.any([z.any(axis=1) for z in outputs.values()], axis=0)
    weights = check_weights(weights, absent)
    used = weights > 0
    wanted, weights = wanted[used], weights[used]
    outputs = {name: values[used] for name, values in outputs.items()}

    raw = raw_scales(model)
    _warn(seen, task, wanted, len(raw) + (width if bias else 0))
    parts = np.stack([outputs[name] for name in raw])
    pull, bias_pull = _pulls(task, wanted, weights)
    scales, biases = fit_scales(
        parts,
        wanted,
        weights,
        LOSSES[task],
        start=list(raw.values()),
        pull=pull,
        bias_pull=bias_pull if bias else None,
    )
    fused = np.tensordot(scales, parts, 1) + (biases if bias else 0)
    return FusionCalibration(
        task=task,
        scales=dict(zip(raw, scales.tolist(), strict=True)),
        bias=biases,
        before=scores(task, outputs["fused"], wanted, weights),
        after=scores(task, fused, wanted, weights),
        num_samples=len(wanted),
    )


def raw_scales(model):
    """The scales by which a model itself fuses: of its outputs, one each.

    Args:
        model: A `MultimodalModel`.

    Returns:
        Dict from the names of the outputs that can be summed to floats.
    """
    sources = {
        _source(output): name
        for name, output in model.output.items()
        if name != "fused"
    }
    operation, node, _ = _source(model.output["fused"])
    if isinstance(operation, keras.layers.Add):
        inputs = operation._inbound_nodes[node].input_tensors
        summed = [_source(tensor) for tensor in inputs]
        if all(source in sources for source in summed):
            return {
                name: float(summed.count(source))
                for source, name in sources.items()
            }
    return {name: float(name == "fused") for name in model.output}


def _source(tensor):
    """Where in the graph a symbolic tensor comes from."""
    return tuple(tensor._keras_history)


def _pulls(task, wanted, weights):
    """The weights of the pulls on scales and biases, in units of the loss."""
    pull = _PULL * np.sum(weights**2)
    width = wanted.shape[1]
    if task == "classification":
        return pull, pull
    if task == "multilabel":
        return pull, pull / width
    variance = np.mean(weights @ (wanted - weights @ wanted) ** 2)
    return 2 * pull * variance, 2 * pull / width


def _warn(seen, task, wanted, num_fitted):
    number, width = wanted.shape
    if seen:
        warnings.warn(
            "`calibrate_fusion` needs data that the model was not trained on: "
            "on its training data, modalities look better than they are. "
            f"Received: {number} samples, of those that `fit()` was given",
            stacklevel=4,
        )
    few = number < _FEW * num_fitted
    if few or (task == "classification" and number < width):
        warnings.warn(
            "`calibrate_fusion` needs more samples, for what it fits to mean "
            f"something. Received: {number} samples to fit {num_fitted} "
            f"numbers, for outputs of width {width}",
            stacklevel=4,
        )
