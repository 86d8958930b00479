import keras
import numpy as np
from keras import ops
from keras import tree

from keras_mimo.fusion.multimodal_model import MultimodalModel


def collect(model, x, y, sample_weight, batch_size, look):
    """Predicts held-out data, in one pass, and keeps no inputs.

    Args:
        model: A `MultimodalModel`.
        x: As for `evaluate()`, like the three that follow.
        y: As there.
        sample_weight: As there.
        batch_size: As there.
        look: Function that is called with the inputs, batch by batch.

    Returns:
        Tuple of a dict of outputs, arrays of shape `(samples, width)`; the
        labels, an array; and the sample weights, of shape `(samples,)`.

    Raises:
        TypeError: If `x` is neither arrays nor a dataset.
        ValueError: If labels or samples are missing, or come twice.
    """
    outputs, labels, weights = {name: [] for name in model.output}, [], []
    # Arrays are one batch here: `predict()` divides them itself.
    for x_batch, *of_fused in labelled_batches(x, y, sample_weight):
        look(x_batch)
        if are_arrays(x):
            predicted = model.predict(x, batch_size=batch_size, verbose=0)
        else:
            predicted = model.predict_on_batch(x_batch)
        for name, kept in outputs.items():
            kept.append(predicted[name])
        check_lengths(predicted["fused"], *of_fused)
        labels.append(of_fused[0])
        weights.append(of_fused[1])
    check_not_empty(x, labels)
    outputs = {name: np.concatenate(kept) for name, kept in outputs.items()}
    return outputs, np.concatenate(labels), np.concatenate(weights)


def check_model(model):
    """Raises unless it is a `MultimodalModel` of outputs of one shape."""
    if not isinstance(model, MultimodalModel):
        raise TypeError(
            "`model` must be a `keras_mimo.MultimodalModel`. "
            f"Received: model={model} of type {type(model)}"
        )
    shapes = {name: output.shape for name, output in model.output.items()}
    fused = shapes.get("fused")
    if fused is None or len(fused) != 2 or len(set(shapes.values())) > 1:
        raise ValueError(
            'The outputs of `model` must be "fused" and others of the same '
            f"shape, `(batch, width)`. Received: {shapes}"
        )


def check_weights(weights, absent):
    """Sample weights as float64 of shape `(samples,)` with the sum 1.

    Args:
        weights: Array.
        absent: Array of booleans, which of the samples have no label.
    """
    weights = weights.reshape(len(weights), -1).astype("float64")
    if weights.shape[1] != 1:
        raise ValueError(
            "`sample_weight` must be one number for each sample. "
            f"Received: {weights.shape[1]} of them"
        )
    weights = weights[:, 0]
    if not np.all((weights >= 0) & np.isfinite(weights)):
        raise ValueError(
            "`sample_weight` must be finite, with no number below 0. Received: "
            f"numbers from {weights.min()} to {weights.max()}"
        )
    weights = np.where(absent, 0, weights)
    if not weights.any():
        raise ValueError(
            "`sample_weight` must be more than 0 for a sample with a label. "
            f"Received: zeros for all {len(weights)}"
        )
    return weights / weights.sum()


def check_outputs(outputs):
    """Raises `ValueError` unless all outputs are finite."""
    for name, values in outputs.items():
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            raise ValueError(
                "The outputs of `model` must be finite. Received: the output "
                f"{name!r}, which is not for {bad.sum()} of {len(bad)} samples"
            )


def are_arrays(x):
    """Whether data are arrays, not a dataset of batches."""
    return tree.is_nested(x) or hasattr(x, "shape")


def labelled_batches(x, y, sample_weight):
    """Data as batches of arrays; arrays are one batch, as they are.

    Args:
        x: As for `evaluate()`, like the two that follow.
        y: As there.
        sample_weight: As there.

    Yields:
        Tuples of inputs, an array of labels and one of sample weights.

    Raises:
        TypeError: If `x` is neither arrays nor a dataset.
        ValueError: If labels are missing, or come twice.
    """
    if are_arrays(x):
        if y is None:
            raise ValueError(
                "`y` must be given where `x` is arrays. Received: y=None"
            )
        yield x, *_labels_and_weights(y, sample_weight)
        return
    if y is not None or sample_weight is not None:
        raise ValueError(
            "`y` and `sample_weight` must not be given where `x` is a "
            "dataset, whose batches hold them. "
            f"Received: x={x} of type {type(x)}"
        )
    for batch in _batches(x):
        x_batch, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            raise ValueError(
                "The batches of `x` must be tuples `(x, y)` or "
                f"`(x, y, sample_weight)`. Received: {type(batch)} without y"
            )
        # Other frameworks' tensors are none to the backend.
        x_batch = tree.map_structure(_numpy_of_array, x_batch)
        yield x_batch, *_labels_and_weights(y, sample_weight)


def check_not_empty(x, labels):
    """Raises `ValueError` if a list of arrays holds no sample."""
    if not sum(map(len, labels)):
        raise ValueError(f"`x` must hold at least one sample. Received: x={x}")


def _labels_and_weights(y, sample_weight):
    labels = _of_fused("y", y)
    if sample_weight is None:
        return labels, np.ones(len(labels))
    return labels, _of_fused("sample_weight", sample_weight)


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        number = data.num_batches
        endless = number is None
    else:
        # That of an endless tf.data.Dataset is -1.
        endless = hasattr(data, "cardinality") and int(data.cardinality()) == -1
        if not hasattr(data, "__iter__"):
            raise TypeError(
                "`x` must be arrays, or a dataset of batches. "
                f"Received: x={data} of type {type(data)}"
            )
    if endless:
        raise ValueError(f"`x` must come to an end. Received: x={data}")
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(number))
    return data


def _numpy_of_array(x):
    return ops.convert_to_numpy(x) if hasattr(x, "__array__") else x


def _of_fused(argument, value):
    """The array of the fused output, where each has its own."""
    if isinstance(value, dict):
        if "fused" not in value:
            raise ValueError(
                f'`{argument}` must be an array, or a dict with "fused" among '
                f"its keys. Received: keys {list(value)}"
            )
        value = value["fused"]
    if tree.is_nested(value) and not np.isscalar(value[0]):
        raise ValueError(
            f"`{argument}` must be one array for all outputs. "
            f"Received: {argument} of type {type(value)}"
        )
    return np.asarray(ops.convert_to_numpy(value))


def check_lengths(*arrays):
    """Raises `ValueError` unless arrays have as many samples each."""
    lengths = [len(array) if array.ndim else 0 for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            "`x`, `y` and `sample_weight` must have as many samples each. "
            f"Received: {lengths}"
        )
