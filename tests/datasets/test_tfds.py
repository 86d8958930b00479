import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.datasets import ImageList
from keras_mimo.datasets import Samples
from keras_mimo.datasets import class_counts
from keras_mimo.datasets import from_tfds
from keras_mimo.datasets import load_cifar10_lt
from keras_mimo.datasets import load_cifar100_lt


@pytest.fixture
def mocked():
    """Sets of 40 samples that are made up, with their features' true forms."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=40):
        yield tfds


def test_features_become_modalities(mocked):
    samples = from_tfds(
        "cifar10",
        modalities={"image": "image", "mean": mean_color},
        split="test",
        batch_size=16,
    )
    assert isinstance(samples, Samples)
    assert len(samples) == 3
    source = mocked.data_source("cifar10", split="test")
    x, y = samples[1]
    assert x["image"].shape == (16, 32, 32, 3)
    assert x["image"].dtype == "uint8"
    np.testing.assert_array_equal(x["image"][2], source[18]["image"])
    np.testing.assert_allclose(x["mean"][2], source[18]["image"].mean((0, 1)))
    labels = [int(sample["label"]) for sample in source]
    assert samples.labels.tolist() == labels
    assert y.tolist() == labels[16:32]


def mean_color(sample):
    return sample["image"].mean(axis=(0, 1))


def test_texts_and_other_labels(mocked):
    samples = from_tfds(
        "ag_news_subset",
        modalities={"title": "title", "length": lambda s: len(s["title"])},
        label="description",
    )
    x, y = samples[0]
    assert x["title"].shape == x["length"].shape == y.shape == (32,)
    assert [len(title) for title in x["title"]] == x["length"].tolist()


def test_it_is_shuffled(mocked):
    arguments = ("cifar10", {"mean": mean_color})
    plain = from_tfds(*arguments, batch_size=40)
    shuffled = from_tfds(*arguments, batch_size=40, shuffle=True, seed=1)
    assert not np.array_equal(plain[0][1], shuffled[0][1])
    assert sorted(plain[0][1]) == sorted(shuffled[0][1])


@pytest.mark.slow
def test_a_model_trains(mocked):
    def image(sample):
        return sample["image"] / 255

    def color(sample):
        # Made-up pictures say nothing of their labels.
        return np.eye(10)[sample["label"]]

    train = from_tfds("cifar10", {"image": image, "color": color}, workers=2)
    encoders = {
        "image": keras.Sequential(
            [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()]
        ),
        "color": keras.Sequential(
            [keras.Input((10,)), keras.layers.Dense(8, "relu")]
        ),
    }
    model = keras_mimo.late_fusion(encoders, num_classes=10)
    model.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(),
    )
    history = model.fit(train, epochs=10, verbose=0).history
    assert history["color_loss"][-1] < history["color_loss"][0]


@pytest.mark.parametrize(
    ("load", "name", "classes"),
    [(load_cifar10_lt, "cifar10", 10), (load_cifar100_lt, "cifar100", 100)],
)
def test_cifar_takes_it_as_its_source(load, name, classes):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=20 * classes):
        source = [
            from_tfds(name, {"image": "image"}, split=split, batch_size=64)
            for split in ("train", "test")
        ]
        # What is made up need not have all classes.
        for part in source:
            part.labels = np.arange(20 * classes) % classes
        train, test = load(imbalance_factor=0.1, source=source)
        assert test is source[1]
        assert isinstance(train, Samples) and train.batch_size == 64
        counts = class_counts(train.labels, classes)
        assert counts[0] == 20 and counts[-1] == 2
        assert np.all(np.diff(counts) <= 0)
        x, y = train[len(train) - 1]
        assert y[-1] == train.labels[-1]
        read = source[0].read
        last = np.flatnonzero(np.arange(20 * classes) % classes == y[-1])
        assert any(
            np.array_equal(x["image"][-1], read(i)["image"]) for i in last
        )


def test_image_lists_take_it_as_their_source(mocked):
    source = from_tfds("imagenet_lt", {"image": "image"})
    images = ImageList(source, image_size=(8, 6), batch_size=4, shuffle=True)
    assert len(images) == 10
    assert images.labels.dtype == "int32"
    assert images.labels.tolist() == source.labels.tolist()
    x, y = images[0]
    assert x.shape == (4, 8, 6, 3) and x.dtype == "float32"
    assert y.shape == (4,)
    source = from_tfds("i_naturalist2018", {"image": "image", "id": "id"})
    with pytest.raises(ValueError, match=r"one modality.*\['image', 'id'\]"):
        ImageList(source)[0]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"modalities": ["image"]}, TypeError, r"modalities=\['image'\]"),
        ({"modalities": {}}, TypeError, "modalities={}"),
        ({"modalities": {"image": 1}}, TypeError, "modalities={'image': 1}"),
        (
            {"modalities": {"x": "pixels"}},
            ValueError,
            "'pixels', which is none",
        ),
        (
            {"label": "coarse"},
            ValueError,
            r"'coarse'.*\['id', 'image', 'label'",
        ),
        ({"split": ["train"]}, TypeError, r"split=\['train'\]"),
        ({"split": None}, TypeError, "split=None"),
        ({"name": "cifar11"}, ValueError, "cifar11 not found"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_bad_arguments(mocked, arguments, error, match):
    with pytest.raises(error, match=match):
        from_tfds(
            **{"name": "cifar10", "modalities": {"x": "image"}, **arguments}
        )


def test_it_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras-mimo\[tfds\]"):
        from_tfds("cifar10", {"image": "image"})


BUILDER = """
import numpy as np
import tensorflow_datasets as tfds


class PostsOfTests(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "caption": tfds.features.Text(),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, downloads):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(7):
            picture = np.full((8 + i, 9, 3), i, "uint8")
            sample = {"picture": picture, "caption": "word " * i}
            yield i, {**sample, "label": i % 3}
"""
PREPARE = """
import posts_of_tests

builder = posts_of_tests.PostsOfTests(
    data_dir="sets", file_format="array_record"
)
builder.download_and_prepare()
"""
READ = """
import sys
import numpy as np
from keras_mimo.datasets import from_tfds

samples = from_tfds(
    "posts_of_tests",
    {
        "image": lambda sample: sample["picture"][:8],
        "text": lambda sample: len(sample["caption"].split()),
    },
    data_dir="sets",
    batch_size=7,
)
x, y = samples[0]
assert x["image"].shape == (7, 8, 9, 3)
np.testing.assert_array_equal(x["image"][:, 0, 0, 0], x["text"])
assert sorted(x["text"]) == list(range(7))
np.testing.assert_array_equal(y, x["text"] % 3)
tensorflow = "tensorflow" in sys.modules
"""


@pytest.mark.slow
def test_a_set_is_read_without_tensorflow(tmp_path):
    (tmp_path / "posts_of_tests.py").write_text(BUILDER)
    by_tensorflow = keras.backend.backend() == "tensorflow"
    for script in (PREPARE, f"{READ}assert tensorflow == {by_tensorflow}"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
