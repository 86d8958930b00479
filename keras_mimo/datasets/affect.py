"""What the loaders of CMU-MOSEI, CMU-MOSI and UR-FUNNY share."""

import numpy as np

from keras_mimo.datasets.safe_numpy import load_pickle
from keras_mimo.datasets.samples import Samples
from keras_mimo.datasets.token_ids import check_tokenize
from keras_mimo.datasets.token_ids import token_ids
from keras_mimo.utils.arguments import check_units

_PARTS = ("train", "valid", "test")
_TEXTS = {"features": "text", "ids": "text_bert"}


def load_sentiment(
    path, labels, cut, text, tokenize, length, batch_size, seed, options
):
    """CMU-MOSEI or CMU-MOSI; the arguments are those of its loader."""
    if labels not in ("binary", "regression"):
        raise ValueError(
            '`labels` must be "binary" or "regression". '
            f"Received: labels={labels!r}"
        )
    if cut not in (">0", ">=0"):
        raise ValueError(f'`cut` must be ">0" or ">=0". Received: cut={cut!r}')

    def target(values):
        if labels == "regression":
            return values.astype("float32")
        positive = values > 0 if cut == ">0" else values >= 0
        return positive.astype("int32")

    return load_affect(
        path, target, 3, text, tokenize, length, batch_size, seed, options
    )


def load_affect(
    path, target, bound, text, tokenize, length, batch_size, seed, options
):
    """Reads a pickle of MultiBench or of MMSA.

    Args:
        path: Path of the file.
        target: Function from the labels in the file, of shape `(n,)`, to those
            that are given to the model.
        bound: What no label in the file is above, or its negative below.
        text, tokenize, length: As for `load_cmu_mosei`.
        batch_size, seed: As for `Samples`.
        options: Dict of further arguments of `Samples`.

    Returns:
        List of three `Samples`.
    """
    if text not in _TEXTS:
        raise ValueError(
            f"`text` must be one of {list(_TEXTS)}. Received: text={text!r}"
        )
    if tokenize is not None:
        check_tokenize(tokenize)
        if text != "features":
            raise ValueError(
                "`tokenize` makes the text's ids itself, so that `text` can't "
                f"be given. Received: text={text!r}"
            )
    length = check_units("length", length)
    data = load_pickle(path)
    if not isinstance(data, dict) or not all(
        isinstance(data.get(part), dict) for part in _PARTS
    ):
        raise ValueError(
            f"`{path}` must be a pickled dict with the dicts {_PARTS}. "
            f"Received: {_names(data)}"
        )
    parts = []
    for name in _PARTS:
        where = f'`{path}`, part "{name}",'
        values = _labels(data[name], bound, where)
        arrays = {
            key: _sequences(data[name], key, len(values), where)
            for key in ("vision", "audio")
        }
        if tokenize is None:
            arrays["text"] = _text(data[name], text, len(values), where)
        else:
            raw = _raw_text(data[name], len(values), where)
            arrays["text"] = token_ids(tokenize, raw, length)
        parts.append((arrays, values))
    _check_same_shapes(parts, path)

    samples = []
    for name, (arrays, values) in zip(_PARTS, parts, strict=True):
        text_axes = tuple(range(1, arrays["text"].ndim))
        rows = np.flatnonzero(np.any(arrays["text"], axis=text_axes))
        if not len(rows):
            raise ValueError(
                f'`{path}`, part "{name}", must have a sample with text.'
            )
        samples.append(
            Samples(
                _Rows(arrays, rows),
                target(values[rows]),
                batch_size=batch_size,
                shuffle=name == "train",
                seed=seed,
                **options,
            )
        )
    return samples


class _Rows:
    """Reads a sample. The arrays are those of the file, not copied."""

    def __init__(self, arrays, rows):
        self.arrays = arrays
        self.rows = rows

    def __call__(self, index):
        row = self.rows[index]
        x = {
            name: array[row].astype("float32" if array.ndim == 3 else "int32")
            for name, array in self.arrays.items()
        }
        # COVAREP: the logarithm of nothing.
        x["audio"][np.isneginf(x["audio"])] = 0
        return x


def _names(data):
    return list(data) if isinstance(data, dict) else type(data)


def _entry(part, key, where):
    if key not in part:
        raise ValueError(
            f"{where} must have the entry {key!r}. Received: {list(part)}"
        )
    return part[key]


def _labels(part, bound, where):
    """As `float64`, of shape `(n,)`."""
    key = "regression_labels" if "regression_labels" in part else "labels"
    values = _entry(part, key, where)
    shape = getattr(values, "shape", None)
    if (
        not isinstance(values, np.ndarray)
        or values.dtype.kind not in "fiu"
        or not values.ndim
        or values.size != len(values)
    ):
        raise ValueError(
            f"{where} must have one number for each sample in {key!r}. "
            f"Received: {type(values)} of shape {shape}"
        )
    values = values.reshape(-1).astype("float64")
    # Of NaN this is not true either.
    wrong = values[~(np.abs(values) <= bound)]
    if len(wrong):
        raise ValueError(
            f"{where} must have numbers from {-bound} to {bound} in {key!r}. "
            f"Received: {wrong[:5].tolist()}"
        )
    return values


def _sequences(part, key, count, where):
    array = _entry(part, key, where)
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind not in "fiu"
        or array.ndim != 3
        or len(array) != count
    ):
        raise ValueError(
            f"{where} must have an array of numbers of shape ({count}, steps, "
            f"features) in {key!r}. Received: {type(array)} of shape "
            f"{getattr(array, 'shape', None)}"
        )
    # Sums, as they need no memory.
    with np.errstate(invalid="ignore"):
        sums = array.sum(axis=(1, 2))
    damaged = np.isnan(sums) | np.isposinf(sums)
    if key != "audio":
        damaged |= np.isneginf(sums)
    if damaged.any():
        raise ValueError(
            f"{where} must be finite in {key!r}. Received: other numbers in "
            f"rows {np.flatnonzero(damaged)[:5].tolist()}"
        )
    return array


def _text(part, text, count, where):
    array = _sequences(part, _TEXTS[text], count, where)
    if text == "features":
        return array
    if array.shape[1] != 3:
        raise ValueError(
            f"{where} must have ids, mask and types in 'text_bert', of shape "
            f"({count}, 3, steps). Received: shape {array.shape}"
        )
    return array[:, 0]


def _raw_text(part, count, where):
    texts = _entry(part, "raw_text", where)
    if isinstance(texts, np.ndarray):
        texts = texts.ravel().tolist()
    if (
        not isinstance(texts, (list, tuple))
        or len(texts) != count
        or not all(isinstance(text, str) for text in texts)
    ):
        raise ValueError(
            f"{where} must have {count} strings in 'raw_text'. Received: "
            f"{type(texts)}"
        )
    return texts


def _check_same_shapes(parts, path):
    for name in parts[0][0]:
        shapes = [arrays[name].shape[1:] for arrays, _ in parts]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"`{path}` must have the same shape of {name!r} in each of "
                f"{_PARTS}. Received: {shapes}"
            )
