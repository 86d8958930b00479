import keras
import numpy as np
import pytest

from keras_mimo.datasets import ImageList
from keras_mimo.datasets import class_counts

LABELS = [0, 0, 0, 1, 1, 2, 4]


@pytest.fixture
def list_file(tmp_path):
    """Seven images of one color each: 10 times their line, and its label."""
    (tmp_path / "images").mkdir()
    lines = []
    for line, label in enumerate(LABELS):
        path = f"images/a b {line}.png"
        image = np.full((12, 8, 3), (10 * line, label, 200), "uint8")
        keras.utils.save_img(tmp_path / path, image, scale=False)
        lines.append(f"{path} {label}")
    file = tmp_path / "train.txt"
    file.write_text("\n".join(lines) + "\n\n")
    return file


def test_batches(list_file):
    dataset = ImageList(list_file, image_size=(4, 6), batch_size=3)
    assert len(dataset) == 3
    batches = [dataset[i] for i in range(3)]
    assert [len(y) for _, y in batches] == [3, 3, 1]
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=1))
    assert images.shape == (7, 4, 6, 3) and images.dtype == "float32"
    assert labels.tolist() == LABELS and labels.dtype == "int32"
    np.testing.assert_array_equal(images[:, 2, 3, 0], 10 * np.arange(7))
    expected = np.broadcast_to(np.reshape(LABELS, (7, 1, 1)), (7, 4, 6))
    np.testing.assert_array_equal(images[..., 1], expected)


def test_middle_of_the_image(tmp_path):
    image = np.zeros((9, 3, 3), "uint8")
    image[3:6] = 100
    keras.utils.save_img(tmp_path / "x.png", image, scale=False)
    (tmp_path / "x.txt").write_text("x.png 0")
    images, _ = ImageList(tmp_path / "x.txt", image_size=(3, 3))[0]
    np.testing.assert_array_equal(images, np.full((1, 3, 3, 3), 100))


def test_gray_images_become_color(tmp_path):
    image = np.full((3, 3, 1), 50, "uint8")
    keras.utils.save_img(tmp_path / "x.png", image, scale=False)
    (tmp_path / "x.txt").write_text("x.png 0")
    images, _ = ImageList(tmp_path / "x.txt", image_size=(3, 3))[0]
    np.testing.assert_array_equal(images, np.full((1, 3, 3, 3), 50))


def test_other_root_and_counts_without_images(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("no/such.jpg 2\nno/other.jpg 0\n")
    dataset = ImageList(file, root=tmp_path / "elsewhere")
    assert class_counts(dataset.labels, 3).tolist() == [1, 0, 1]
    with pytest.raises(FileNotFoundError, match=r"elsewhere.no.such"):
        dataset[0]


def test_shuffle(list_file):
    def epochs(seed):
        dataset = ImageList(
            list_file, image_size=(2, 2), batch_size=7, shuffle=True, seed=seed
        )
        for _ in range(3):
            images, labels = dataset[0]
            lines = (images[:, 0, 0, 0] / 10).astype(int)
            assert labels.tolist() == [LABELS[line] for line in lines]
            assert sorted(lines) == list(range(7))
            yield lines.tolist()
            dataset.on_epoch_end()

    first, again, other = (list(epochs(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] != first[1] != first[2]


@pytest.mark.parametrize(("workers", "shuffle"), [(1, True), (2, False)])
def test_fit(list_file, workers, shuffle):
    dataset = ImageList(
        list_file,
        image_size=(4, 4),
        batch_size=2,
        shuffle=shuffle,
        workers=workers,
    )
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.GlobalAveragePooling2D(data_format="channels_last"),
            keras.layers.Dense(5),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    history = model.fit(dataset, epochs=2, shuffle=shuffle, verbose=0)
    images = np.zeros((7, 4, 4, 3))
    images += np.stack([10 * np.arange(7), LABELS, np.full(7, 200)], axis=-1)[
        :, None, None
    ]
    expected = model.evaluate(images, np.array(LABELS), verbose=0)
    np.testing.assert_allclose(
        history.history["loss"], [expected] * 2, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a.png 0\nb.png", "Line 2"),
        ("a.png x", "Line 1"),
        ("a.png -1", "Line 1"),
        ("3", "Line 1"),
        ("\n\n", "names no image"),
    ],
)
def test_bad_files(tmp_path, text, match):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=match):
        ImageList(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"batch_size": "2"}, TypeError, "batch_size='2'"),
        ({"image_size": (0, 2)}, ValueError, "image_size=0"),
        ({"image_size": (2.5, 2)}, TypeError, "image_size=2.5"),
    ],
)
def test_bad_arguments(list_file, options, error, match):
    with pytest.raises(error, match=match):
        ImageList(list_file, **options)


def test_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        ImageList(tmp_path / "none.txt")


def test_batch_out_of_range(list_file):
    dataset = ImageList(list_file)
    for index in (-1, 1):
        with pytest.raises(IndexError, match=f"no batch {index} of 1"):
            dataset[index]
