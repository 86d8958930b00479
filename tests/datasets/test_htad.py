import sys

import numpy as np
import pytest

from keras_mimo.datasets import HTAD_CLASSES
from keras_mimo.datasets import load_htad
from tests.datasets.archives import write_folder
from tests.datasets.archives import write_wheel

TITLES = [
    "class",
    *(f"v1_mfcc{k}" for k in range(1, 37)),
    *(f"v2_{k}" for k in range(16)),
]
PER_CLASS = 10


@pytest.fixture
def rows():
    """Ten of each class; the first column of each modality is the row."""
    random = np.random.default_rng(0)
    rows = []
    for row in range(len(HTAD_CLASSES) * PER_CLASS):
        name = HTAD_CLASSES[-1 - row % len(HTAD_CLASSES)]
        values = random.normal(5, 3, size=52).round(6)
        values[0], values[36], values[1] = row, -row, 2
        rows.append([name, *map(str, values)])
    return rows


def csv(rows, titles=TITLES):
    return "\r\n".join(",".join(row) for row in [titles, *rows]).encode()


def write(folder, content):
    write_wheel(folder, "multiviewstacking", {"data/htad.csv": content})


def test_parts_are_those_of_the_file(tmp_path, rows):
    write(tmp_path, csv(rows))
    (x_train, y_train), (x_test, y_test) = load_htad(tmp_path)
    for x, y, count in ((x_train, y_train, 49), (x_test, y_test, 21)):
        assert {k: v.shape for k, v in x.items()} == {
            "audio": (count, 36),
            "accel": (count, 16),
        }
        assert {v.dtype for v in x.values()} == {np.dtype("float32")}
        assert y.dtype == np.int32
        assert np.bincount(y).tolist() == [count // 7] * 7

    # The first column ranks the samples as the rows of the file.
    whole = {name: np.concatenate([x_train[name], x_test[name]]) for name in x}
    places = whole["audio"][:, 0].argsort().argsort()
    for label, place in zip([*y_train, *y_test], places, strict=True):
        assert HTAD_CLASSES[label] == rows[place][0]
    values = np.array([row[1:] for row in rows], "float64")[places]
    for name, columns in (("audio", slice(36)), ("accel", slice(36, None))):
        raw = values[:, columns]
        mean, deviation = raw[:49].mean(0), raw[:49].std(0)
        deviation[deviation == 0] = 1
        np.testing.assert_allclose(
            whole[name], (raw - mean) / deviation, atol=1e-5
        )
    # A constant column.
    assert not x_train["audio"][:, 1].any()


def test_the_seed_decides_what_is_held_out(tmp_path, rows):
    write(tmp_path, csv(rows))
    first, again, other = (load_htad(tmp_path, seed=s)[0][0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first["accel"], again["accel"])
    assert not np.array_equal(first["accel"], other["accel"])


def test_an_installed_package_is_read_and_not_imported(
    tmp_path, rows, monkeypatch
):
    files = {"__init__.py": b"1 / 0", "data/htad.csv": csv(rows)}
    write_folder(tmp_path / "multiviewstacking", files)
    monkeypatch.delitem(sys.modules, "multiviewstacking", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (x_train, _), _ = load_htad()
    assert len(x_train["audio"]) == 49
    assert "multiviewstacking" not in sys.modules


def test_absent_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "multiviewstacking", None)
    with pytest.raises(ImportError, match="pip install multiviewstacking"):
        load_htad()
    with pytest.raises(FileNotFoundError, match="pip download --no-deps"):
        load_htad(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows[3].pop(), "rows of 53 cells.*52, 53"),
        (lambda rows: rows[3].__setitem__(0, "iron"), r"\['iron'\]"),
        (lambda rows: rows[3].__setitem__(9, "high"), "'high'"),
        (lambda rows: rows[3].__setitem__(9, "nan"), "not finite"),
        (lambda rows: rows.clear(), "rows of 53 cells"),
    ],
)
def test_damaged_rows(tmp_path, rows, change, message):
    change(rows)
    write(tmp_path, csv(rows))
    with pytest.raises(ValueError, match=f"data/htad.csv.*{message}"):
        load_htad(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "no CSV file"),
        (b"\xff\xfe\x00", "no CSV file"),
        (csv([["1"] * 53], ["kind", *TITLES[1:]]), "'kind'"),
        (csv([["sweep"] * 53], [*TITLES[:-1], "v1_37"]), "36 columns.* 37"),
    ],
)
def test_a_file_of_another_kind(tmp_path, content, message):
    write(tmp_path, content)
    with pytest.raises(ValueError, match=r"data/htad\.csv") as error:
        load_htad(tmp_path)
    assert error.match(message)
