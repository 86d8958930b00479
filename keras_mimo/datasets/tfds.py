import numpy as np

from keras_mimo.datasets.samples import Samples


def from_tfds(
    name,
    modalities,
    label="label",
    split="train",
    data_dir=None,
    download=False,
    **kwargs,
):
    """Samples of a set that tensorflow-datasets knows.

    It reads the set's files one sample at a time (`tfds.data_source`), on any
    backend, and without TensorFlow where the set is there as `array_record`
    files. To prepare a set for the first time, tensorflow-datasets needs
    TensorFlow for most. Install it with `pip install keras-mimo[tfds]`.

    **License**: that of the set, which tensorflow-datasets names.

    Args:
        name: String, the name of the set there, such as `"cifar10"`.
        modalities: Dict from the names of inputs to the name of a feature of
            the set, or to a function of a sample (a dict of its features) that
            returns an array. All samples must have the same shapes: pictures of
            several sizes need a function that scales them, and texts, which
            are `bytes`, one that makes numbers of them. With
            `use_multiprocessing` functions must be picklable.
        label: String, the name of the feature that is the label.
            Defaults to `"label"`.
        split: String, a part of the set such as `"test"` or `"train[:90%]"`.
            Defaults to `"train"`.
        data_dir: Folder of the sets. Defaults to `None`: that of
            tensorflow-datasets.
        download: Boolean: whether the set is downloaded and prepared where it
            is not there, which may be hundreds of gigabytes.
            Defaults to `False`.
        **kwargs: Arguments of `keras_mimo.datasets.Samples`: `batch_size`,
            `shuffle`, `seed`, `workers`.

    Returns:
        `keras_mimo.datasets.Samples` with the inputs that `modalities` names.
        All labels are read at once, but no picture is decoded for that.

    Raises:
        ImportError: If tensorflow-datasets is not installed.
        TypeError: If `modalities` is no such dict, or `split` no string.
        ValueError: If a feature is not there, or tensorflow-datasets has no
            such set or part. What else it raises, it explains itself.

    Example:

    ```python
    def picture(sample):
        size = (224, 224)
        return keras.preprocessing.image.smart_resize(sample["image"], size)

    train = keras_mimo.datasets.from_tfds(
        "i_naturalist2018", {"image": picture}, shuffle=True, workers=4
    )
    model.fit(train, epochs=90)
    ```
    """
    tfds = _tensorflow_datasets()
    _check(modalities, split)
    options = dict(split=split, data_dir=data_dir, download=download)
    source = tfds.data_source(name, **options)
    features = source.dataset_info.features
    named = [part for part in modalities.values() if isinstance(part, str)]
    for feature in (label, *named):
        if feature not in features:
            raise ValueError(
                f"`{name}` must have the features that are named. Received: "
                f"{feature!r}, which is none of {list(features)}"
            )
    undecoded = tfds.data_source(
        name,
        decoders={
            key: tfds.decode.SkipDecoding()
            for key, feature in features.items()
            if isinstance(feature, tfds.features.Image)
        },
        **options,
    )
    labels = [undecoded[i][label] for i in range(len(undecoded))]
    return Samples(_Reader(source, dict(modalities)), labels, **kwargs)


class _Reader:
    """What reads a sample; a class, so that it can be pickled."""

    def __init__(self, source, modalities):
        self.source = source
        self.modalities = modalities

    def __call__(self, index):
        sample = self.source[index]
        return {
            name: np.asarray(part(sample) if callable(part) else sample[part])
            for name, part in self.modalities.items()
        }


def _tensorflow_datasets():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            "`from_tfds` needs tensorflow-datasets. Install it with "
            "`pip install keras-mimo[tfds]`."
        ) from error
    return tensorflow_datasets


def _check(modalities, split):
    if (
        not isinstance(modalities, dict)
        or not modalities
        or not all(
            isinstance(part, str) or callable(part)
            for part in modalities.values()
        )
    ):
        raise TypeError(
            "`modalities` must be a dict from the names of inputs to names of "
            "features, or to functions of a sample. "
            f"Received: modalities={modalities!r}"
        )
    if not isinstance(split, str):
        raise TypeError(
            "`split` must be a string, the name of one part. "
            f"Received: split={split!r}"
        )
