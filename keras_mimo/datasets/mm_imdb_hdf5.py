import json
import os

import numpy as np

from keras_mimo.datasets.token_ids import fill

_PARTS = ((0, 15552), (15552, 18160), (18160, 25959))
_COUNT = _PARTS[-1][1]
_SHAPES = {
    "images": (_COUNT, 3, 256, 160),
    "vgg_features": (_COUNT, 4096),
    "features": (_COUNT, 300),
    "sequences": (_COUNT,),
}
# In the order blue, green, red. What VGG is given is less by these.
_MEANS = np.array([103.939, 116.779, 123.68], "float32")


def load_hdf5(path, genres, image, text, length):
    """Opens `multimodal_imdb.hdf5`; the arguments are as of `load_mm_imdb`.

    Returns:
        List of tuples of a function of the number of a sample, and labels.
    """
    for argument, given, known in (
        ("image", image, ("images", "vgg_features")),
        ("text", text, ("features", "sequences")),
    ):
        if given not in known:
            raise ValueError(
                f"`{argument}` must be one of {known}. "
                f"Received: {argument}={given!r}"
            )
    rows = _Rows(path)
    for name in (image, text):
        rows.check(name, _SHAPES[name])
    labels = _labels(rows, genres)
    return [
        (_Reader(rows, start, image, text, length), labels[start:end])
        for start, end in _PARTS
    ]


class _Rows:
    """The arrays of an hdf5 file, which each process opens for itself."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self._file = None
        self._process = None

    def __getstate__(self):
        return {"path": self.path, "_file": None, "_process": None}

    def __getitem__(self, name):
        # A forked process must not share the position in the file.
        if self._process != os.getpid():
            self._file = _open(self.path)
            self._process = os.getpid()
        return self._file[name]

    def check(self, name, shape):
        try:
            found = self[name].shape
        except (KeyError, AttributeError):
            found = None
        if found != shape:
            raise ValueError(
                f"`{self.path}` must have an array {name!r} of shape {shape}. "
                f"Received: {'none' if found is None else found}"
            )


def _open(path):
    # Keras needs it too.
    import h5py

    if not os.path.exists(path):
        raise FileNotFoundError(
            f"There is no `{path}`. Expected `multimodal_imdb.hdf5`, or the "
            "folder with `split.json` and `dataset`."
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"`{path}` must be an hdf5 file. Received: {error}"
        ) from error


def _labels(rows, genres):
    """Multi-hot, with columns in the order of `genres`."""
    rows.check("genres", (_COUNT, len(genres)))
    array = rows["genres"]
    try:
        names = json.loads(array.attrs["target_names"])
        columns = [names.index(genre) for genre in genres]
    # Of an attribute that is not there, and of JSON or a name in it.
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"`{rows.path}` must have the attribute `target_names` of "
            f"'genres', a JSON list of {genres}. Received: {error}"
        ) from error
    values = array[:]
    if not np.isin(values, (0, 1)).all():
        raise ValueError(
            f"`{rows.path}` must have 0 and 1 in 'genres' only. Received: "
            f"numbers from {values.min()} to {values.max()}"
        )
    return values[:, columns].astype("float32")


class _Reader:
    def __init__(self, rows, start, image, text, length):
        self.rows = rows
        self.start = start
        self.image = image
        self.text = text
        self.length = length

    def __call__(self, index):
        row = self.start + index
        image = self.rows[self.image][row]
        text = self.rows[self.text][row]
        if self.image == "images":
            image = self._picture(image, row)
        if self.text == "sequences":
            ids = np.zeros(self.length, "int32")
            # 0 is a word that is not known.
            fill(ids, text + 1)
            text = ids
        return {"image": image, "text": text}

    def _picture(self, image, row):
        image = image.transpose(1, 2, 0).astype("float32") + _MEANS
        if image.min() < -1 or image.max() > 256:
            raise ValueError(
                f"`{self.rows.path}` must have pixels less the means {_MEANS} "
                f"of blue, green and red in 'images'. Received: row {row} with "
                f"values from {image.min()} to {image.max()}, means added"
            )
        return np.clip(image[..., ::-1] / 255, 0, 1)
