import io
import math
from pathlib import Path

import keras
import numpy as np

from keras_mimo.datasets.samples import Samples
from keras_mimo.utils.arguments import check_units


class ImageList(keras.utils.PyDataset):
    """Images named in a text file, as of ImageNet-LT, Places-LT, iNaturalist.

    Each line of the file is a path and an integer label, split by a blank:
    `train/n01440764/n01440764_190.JPEG 0`. Images are read as they are needed,
    by Keras (which needs Pillow): converted to RGB, cut at the middle to the
    proportions of `image_size` and scaled to it.

    The labels are there without any image being read: `dataset.labels`, as
    `keras_mimo.datasets.class_counts` takes them.

    Args:
        list_file: Path of the text file. Or `keras_mimo.datasets.Samples` with
            one modality, which is pictures of any sizes, `uint8`, such as
            `from_tfds("imagenet_lt", {"image": "image"})` returns: they are cut
            and scaled like those of files.
        root: Folder to which the paths in it are relative. Defaults to `None`:
            that of the file. Not used with `Samples`.
        image_size: Tuple `(height, width)`. Defaults to `(224, 224)`.
        batch_size: Positive integer. Defaults to `32`.
        shuffle: Boolean. Whether to draw a new order for each epoch. (`fit()`
            shuffles whole batches only.) Defaults to `False`.
        seed: Integer, decides the orders. Defaults to `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`. Several workers read several batches at a
            time; Keras may then carry some that were read ahead into the next
            epoch, which is no longer exactly one pass if anything shuffles.

    Returns of `dataset[i]`:
        Tuple `(images, labels)`: `float32` of shape `(batch, height, width, 3)`
        with values from 0 to 255, and `int32` of shape `(batch,)`. The last
        batch may be smaller.

    Raises:
        FileNotFoundError: If there is no `list_file`; later, if an image that
            it names is missing.
        TypeError: If a size is no integer.
        ValueError: If a size is not positive, or the file is empty or has a
            line of another form.

    Example:

    ```python
    train = keras_mimo.datasets.ImageList(
        "ImageNet_LT_train.txt", root="imagenet", shuffle=True, workers=8
    )
    counts = keras_mimo.datasets.class_counts(train.labels, 1000)
    model.fit(train, epochs=90)
    ```
    """

    def __init__(
        self,
        list_file,
        root=None,
        image_size=(224, 224),
        batch_size=32,
        shuffle=False,
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        height, width = image_size
        self.image_size = (
            check_units("image_size", height),
            check_units("image_size", width),
        )
        self.batch_size = check_units("batch_size", batch_size)
        self.shuffle = shuffle
        if isinstance(list_file, Samples):
            self._read = list_file.read
            self.labels = np.asarray(list_file.labels, "int32")
        else:
            root = Path(list_file).parent if root is None else Path(root)
            paths, self.labels = _read_list(list_file)
            self._read = _Paths(root, paths)
        self._random = np.random.default_rng(seed)
        self._order = np.arange(len(self.labels))
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        chosen = self._order[start : start + self.batch_size]
        if index < 0 or not len(chosen):
            raise IndexError(f"There is no batch {index} of {len(self)}")
        images = [self._image(self._read(int(i))) for i in chosen]
        return np.stack(images), self.labels[chosen]

    def on_epoch_end(self):
        if self.shuffle:
            self._order = self._random.permutation(len(self.labels))

    def _image(self, source):
        image = keras.utils.load_img(
            _as_file(source) if isinstance(source, dict) else source,
            target_size=self.image_size,
            interpolation="bilinear",
            keep_aspect_ratio=True,
        )
        return keras.utils.img_to_array(
            image, data_format="channels_last", dtype="float32"
        )


class _Paths:
    """The path of an image by its number; a class, so that it is pickled."""

    def __init__(self, root, paths):
        self.root = root
        self.paths = paths

    def __call__(self, index):
        return self.root / self.paths[index]


def _as_file(sample):
    """The picture of a sample as a file, which Keras cuts as it cuts others."""
    if len(sample) != 1:
        raise ValueError(
            "`list_file` must be `Samples` with one modality, pictures. "
            f"Received: the modalities {list(sample)}"
        )
    (picture,) = sample.values()
    file = io.BytesIO()
    # No more than a header and the bytes.
    keras.utils.array_to_img(
        picture, data_format="channels_last", scale=False
    ).save(file, "ppm")
    return file


def _read_list(list_file):
    paths, labels = [], []
    text = Path(list_file).read_text(encoding="utf-8-sig")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        # From the right, for paths with blanks.
        path, _, label = line.strip().rpartition(" ")
        if not path or not label.isdecimal():
            raise ValueError(
                f"Line {number} of `{list_file}` must be a path, a blank and "
                f"an integer. Received: {line!r}"
            )
        paths.append(path.strip())
        labels.append(int(label))
    if not paths:
        raise ValueError(f"`{list_file}` names no image")
    return paths, np.array(labels, "int32")
