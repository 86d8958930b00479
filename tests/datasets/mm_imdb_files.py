"""MM-IMDb in both of its forms, small, with the defects of the real ones."""

import json

import h5py
import numpy as np
from PIL import Image

from keras_mimo.datasets import MM_IMDB_GENRES

COUNT = 25959
# The first and the last rows of the parts. All others are not written, so that
# the file is small.
ROWS = (0, 1, 15551, 15552, 18159, 18160, 25958)
MEANS = np.array([103.939, 116.779, 123.68])


def pixels(row):
    """Red, green, blue, from 0 to 255."""
    return np.random.default_rng(row).integers(0, 256, (256, 160, 3))


def write_hdf5(path):
    """As gmu-mmimdb writes it, with the genres in another order."""
    order = np.random.default_rng(0).permutation(len(MM_IMDB_GENRES))
    random = np.random.default_rng(1)
    genres = random.integers(0, 2, (COUNT, len(order)))
    with h5py.File(path, "w") as file:

        def create(name, shape, dtype, value):
            chunks = (1, *shape[1:])
            array = file.create_dataset(name, shape, dtype, chunks=chunks)
            for row in ROWS:
                array[row] = value(row)

        create("features", (COUNT, 300), "f4", lambda row: np.full(300, row))
        create("vgg_features", (COUNT, 4096), "f4", lambda row: row)
        create(
            "images",
            (COUNT, 3, 256, 160),
            "i4",
            lambda row: (
                (pixels(row)[..., ::-1] - MEANS)
                .astype("f4")
                .transpose(2, 0, 1)
                .astype("i4")
            ),
        )
        create(
            "sequences",
            (COUNT,),
            h5py.vlen_dtype("i4"),
            lambda row: np.arange(row % 7),
        )
        # Word2vec knew no word of it.
        file["features"][1] = np.nan
        array = file.create_dataset("genres", data=genres[:, order])
        array.attrs["target_names"] = json.dumps(
            [MM_IMDB_GENRES[place] for place in order]
        )
    return genres


class Folder:
    """The raw folder: tests change it and write it."""

    def __init__(self):
        self.films = {
            "0000001": film(["Drama", "War"], ["short", "the longest plot"]),
            "0000002": film(["Comedy"], ["a plot"]),
            "0000003": film(["News"], ["not of the 23"]),
            "0000004": film(["Drama"], []),
            "0000005": film(["Crime", "News"], ["no cover"]),
            "0000006": {"genres": ["Drama"]},
            "0000007": {"plot": ["no genre"]},
            "0000008": film(["Film-Noir"], [" "]),
            "0000009": film(["Horror"], ["a plot"]),
            "0000010": film(["Drama"], ["the plot"]),
        }
        self.split = {
            "train": [f"{k:07}" for k in range(1, 9)],
            "dev": ["0000009"],
            "test": ["0000010"],
        }
        self.covers = {
            name: Image.new("RGB", (200, 300), (10 * k, 200, 30))
            for k, name in enumerate(self.films)
            if name not in ("0000005", "0000006")
        }
        self.covers["0000002"] = Image.new("L", (170, 256), 77)
        self.covers["0000009"] = Image.new("CMYK", (90, 300))

    def write(self, folder):
        data = folder / "dataset"
        data.mkdir()
        for name, content in self.films.items():
            (data / f"{name}.json").write_text(json.dumps(content))
        for name, image in self.covers.items():
            image.save(data / f"{name}.jpeg")
        (folder / "split.json").write_text(json.dumps(self.split))
        return folder


def film(genres, plots):
    return {"genres": genres, "plot": plots, "title": "A film", "year": 1999}
