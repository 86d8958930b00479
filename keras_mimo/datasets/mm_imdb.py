from pathlib import Path

from keras_mimo.datasets.mm_imdb_hdf5 import load_hdf5
from keras_mimo.datasets.mm_imdb_raw import load_raw
from keras_mimo.datasets.samples import Samples
from keras_mimo.utils.arguments import check_units

MM_IMDB_GENRES = (
    "Drama",
    "Comedy",
    "Romance",
    "Thriller",
    "Crime",
    "Action",
    "Adventure",
    "Horror",
    "Documentary",
    "Mystery",
    "Sci-Fi",
    "Fantasy",
    "Family",
    "Biography",
    "War",
    "History",
    "Music",
    "Animation",
    "Musical",
    "Western",
    "Sport",
    "Short",
    "Film-Noir",
)
"""The genres of `load_mm_imdb`, from the most to the least frequent."""

_SIZE = (256, 160)


def load_mm_imdb(
    path,
    image="images",
    text="features",
    tokenize=None,
    length=256,
    image_size=_SIZE,
    incomplete="drop",
    cache=None,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads MM-IMDb: the genres of films by cover and plot, multi-label.

    25,959 films with one or more of the 23 genres
    `keras_mimo.datasets.MM_IMDB_GENRES`. The data is neither downloaded nor
    bundled; https://github.com/johnarevalo/gmu-mmimdb says where it is. Either
    form is read:

    - `multimodal_imdb.hdf5`, prepared: `images` `(25959, 3, 256, 160)`,
      `vgg_features` `(25959, 4096)`, `features` `(25959, 300)` (the mean of
      word2vec), `sequences` (the numbers of words, of any length) and `genres`
      `(25959, 23)` with the attribute `target_names`. Its rows 0 to 15551 are
      for training, 15552 to 18159 for validation, 18160 to 25958 for testing.
      Rows are read when their batch is.
    - the folder of `mmimdb.tar.gz`, raw: `split.json` (`train`, `dev` and
      `test`, lists of ids) and `dataset/<id>.json` (`genres` and `plot`, both
      lists) beside `dataset/<id>.jpeg`. Of several plots the longest is used.
      Films without any of the 23 genres are dropped. Pillow, which decodes
      covers when their batch is read, is installed by
      `pip install keras-mimo[images]`.

    **License**: the authors state none for the data; covers and plots are
    those of IMDb and others.

    Args:
        path: Path of the hdf5 file or of the folder.
        image: `"images"`, or `"vgg_features"` of the hdf5 file. Defaults to
            `"images"`.
        text: `"features"` or `"sequences"`, of the hdf5 file. Defaults to
            `"features"`.
        tokenize: Function from a string to a sequence of ids, of which 0 means
            no token: what is made of the plots of the folder, which needs it.
            Each plot is given to it once, at the start. Of the package
            `tokenizers`, it is `lambda plot: tokenizer.encode(plot).ids`.
        length: Positive integer, how many ids a text has: it is cut, or filled
            with zeros at the end. Defaults to `256`.
        image_size: Tuple `(height, width)` of the folder's covers, which are
            cut in the middle to that shape. Defaults to `(256, 160)`, which the
            hdf5 file has.
        incomplete: What becomes of the folder's films that lack a plot or a
            cover: `"drop"`, as in the hdf5 file, or `"mark"`, for
            `late_fusion(..., missing={"image": None, "text": 0})`. Films
            without both are dropped. A warning says how many are left out.
            Defaults to `"drop"`.
        cache: Another folder, in which the covers that have been decoded are
            kept, so that each is decoded once only; any number of runs may
            share it. Defaults to `None`: nothing is kept.
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides the orders of the training samples. Defaults to
            `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `keras_mimo.datasets.Samples`.
        Training samples are shuffled.

        Inputs are dicts with `"image"`, `float32` of shape
        `(batch, height, width, 3)` with values from 0 to 1 in the order red,
        green, blue, or `(batch, 4096)`; and `"text"`, `float32` of shape
        `(batch, 300)`, or `int32` of shape `(batch, length)`. Those of
        `sequences` are one more than in the file, where 0 is a word.

        What a film lacks is NaN, or 0 for ids. So are the `features` of a plot
        of which word2vec knows no word.

        Labels are `float32` of shape `(batch, 23)`: 1 for each genre that a
        film has, in the order of `MM_IMDB_GENRES`.

    Raises:
        FileNotFoundError: If there is no `path`, or a file in the folder is
            missing.
        ImportError: If Pillow is not installed and the folder is read.
        TypeError: If `tokenize` is no function, or a number no integer.
        ValueError: If an argument has no such value or is for the other form,
            or a file is of another form or damaged. A cover is read, and its
            errors raised, when its batch is.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_mm_imdb(
        "multimodal_imdb.hdf5", image="vgg_features", batch_size=128
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", loss, combiner="mimo")
    model.fit(train, validation_data=validation, epochs=10)
    ```

    Reference:

    - [Arevalo et al., 2017, Gated Multimodal Units for Information Fusion](
      https://arxiv.org/abs/1702.01992)
    """
    length = check_units("length", length)
    height, width = image_size
    image_size = (
        check_units("image_size", height),
        check_units("image_size", width),
    )
    if incomplete not in ("drop", "mark"):
        raise ValueError(
            '`incomplete` must be "drop" or "mark". '
            f"Received: incomplete={incomplete!r}"
        )
    path = Path(path)
    if path.is_dir():
        _check_unused(path, "folder", image=image, text=text)
        parts = load_raw(
            path,
            MM_IMDB_GENRES,
            tokenize,
            length,
            image_size,
            incomplete,
            cache,
        )
    else:
        _check_unused(
            path,
            "file",
            tokenize=tokenize,
            image_size=image_size,
            cache=cache,
        )
        parts = load_hdf5(path, MM_IMDB_GENRES, image, text, length)
    return tuple(
        Samples(
            read,
            labels,
            batch_size=batch_size,
            shuffle=part == 0,
            seed=seed,
            **kwargs,
        )
        for part, (read, labels) in enumerate(parts)
    )


def _check_unused(path, kind, **given):
    defaults = {
        "image": "images",
        "text": "features",
        "tokenize": None,
        "image_size": _SIZE,
        "cache": None,
    }
    for name, value in given.items():
        if value != defaults[name]:
            raise ValueError(
                f"`{name}` can't be given where `path` is a {kind}. "
                f"Received: path={path}, {name}={value!r}"
            )
