import keras
import numpy as np
from keras import ops
from keras import tree


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
    if tree.is_nested(x) or hasattr(x, "shape"):
        if y is None:
            raise ValueError(
                "`y` must be given where `x` is arrays. Received: y=None"
            )
        look(x)
        predicted = model.predict(x, batch_size=batch_size, verbose=0)
        batches = [(predicted, y, sample_weight)]
    else:
        if y is not None or sample_weight is not None:
            raise ValueError(
                "`y` and `sample_weight` must not be given where `x` is a "
                "dataset, whose batches hold them. "
                f"Received: x={x} of type {type(x)}"
            )
        batches = _predicted_batches(model, x, look)
    outputs, labels, weights = {name: [] for name in model.output}, [], []
    for predicted, y, sample_weight in batches:
        labels.append(_of_fused("y", y))
        weights.append(
            np.ones(len(labels[-1]))
            if sample_weight is None
            else _of_fused("sample_weight", sample_weight)
        )
        for name, kept in outputs.items():
            kept.append(predicted[name])
        _check_lengths(predicted["fused"], labels[-1], weights[-1])
    if not sum(map(len, labels)):
        raise ValueError(f"`x` must hold at least one sample. Received: x={x}")
    outputs = {name: np.concatenate(kept) for name, kept in outputs.items()}
    return outputs, np.concatenate(labels), np.concatenate(weights)


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


def _predicted_batches(model, data, look):
    for batch in _batches(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            raise ValueError(
                "The batches of `x` must be tuples `(x, y)` or "
                f"`(x, y, sample_weight)`. Received: {type(batch)} without y"
            )
        # Other frameworks' tensors are none to the backend.
        x = tree.map_structure(_numpy_of_array, x)
        look(x)
        yield model.predict_on_batch(x), y, sample_weight


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


def _check_lengths(*arrays):
    lengths = [len(array) if array.ndim else 0 for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            "`x`, `y` and `sample_weight` must have as many samples each. "
            f"Received: {lengths}"
        )
