"""Benchmarks of one table each, run small."""

import re

import keras
import numpy as np
import pytest
from matplotlib import image

from tests.scripts import printed
from tests.scripts import table


@pytest.mark.slow
def test_half_precision():
    head, rows = table(
        printed(
            "benchmarks/half_precision.py",
            *("--combiners", "MGDA", "--seeds", 1, "--epochs", 1),
        )
    )
    assert head == ["combiner", "policy", "fused", "accel", "gyro"]
    assert [row[0] for row in rows] == ["MGDA"] * 3
    exact, *halves = (float(row[2]) for row in rows)
    # The most frequent of the seven classes is 17 % of them.
    assert exact > 50
    for half in halves:
        assert abs(half - exact) < 5


@pytest.mark.slow
def test_many_objectives():
    head, (row,) = table(
        printed(
            "benchmarks/many_objectives.py",
            *("--objectives", 2, "--rounds", 1),
        )
    )
    assert head == ["objectives", "plain", "MIMO", "MGDA"]
    assert row[0] == "2"
    for cell in row[1:]:
        low, high = (float(part) for part in cell.split(" to "))
        assert 0 <= low == high


@pytest.mark.slow
def test_sparse_embedding():
    head, rows = table(
        printed(
            "benchmarks/sparse_embedding.py",
            *("--rows", 100, "--rounds", 1, "--optimizers", "SGD"),
            *("--methods", "plain", "MGDA"),
        )
    )
    assert head == ["optimizer", "objectives that reach it", "plain", "MGDA"]
    assert [row[:2] for row in rows] == [["SGD", "1"], ["SGD", "2"]]
    for cell in (cell for row in rows for cell in row[2:]):
        milliseconds, megabytes = (float(part) for part in cell.split(" / "))
        assert milliseconds > 0 and megabytes >= 0


@pytest.mark.slow
def test_early_fusion():
    head, (row,) = table(
        printed(
            "benchmarks/early_fusion.py",
            *("--methods", "MIMO", "--seeds", 1, "--epochs", 2, "--flags"),
        )
    )
    assert head == ["method", "fused", "gyro lost", "accel lost"]
    # The most frequent of the seven classes is 17 % of them.
    assert row[0] == "MIMO" and float(row[1]) > 50


@pytest.mark.slow
def test_absent_inputs():
    head, rows = table(
        printed(
            "benchmarks/absent_inputs.py",
            *("--methods", "Sum of losses", "--epochs", 1),
        )
    )
    assert head[:4] == ["readings", "method", "absent", "fused"]
    kinds = [(row[0], row[2]) for row in rows]
    assert kinds == [
        ("standardised", "zeros"),
        ("standardised", "learnt"),
        ("as recorded", "zeros"),
        ("as recorded", "mean"),
        ("as recorded", "learnt"),
    ]
    for row in rows:
        assert all(float(cell.split()[0]) > 10 for cell in row[3:])


@pytest.mark.slow
def test_calibration(tmp_path):
    picture = tmp_path / "calibration.png"
    head, rows = table(
        printed(
            "benchmarks/calibration.py",
            *("--sets", "watch", "--seeds", 1, "--epochs", 2),
            *("--picture", picture),
        )
    )
    pixels = image.imread(picture)[..., :3]
    assert (np.abs(pixels - [0, 0x72 / 255, 0xB2 / 255]) < 0.01).all(-1).any()
    assert head[:4] == ["watch", "fused", "calibrated", "best alone"]
    assert len(rows) == 6
    for row in rows:
        # The most frequent of the seven classes is 17 % of them.
        assert float(row[1]) > 40
        assert abs(float(row[2]) - float(row[1])) < 10
        # Of seven classes, answered at random: 1.95.
        assert all(0 < float(cell) < 1.3 for cell in row[-2:])


@pytest.mark.slow
def test_fusion():
    head, rows = table(
        printed(
            "benchmarks/fusion.py",
            *("--sets", "watch", "--seeds", 1, "--epochs", 2),
        )
    )
    assert head == ["watch", "fused", "best alone", "worst alone", "one lost"]
    assert len(rows) == 6
    for row in rows:
        assert float(row[1]) > 40
        best, worst = (float(cell.split()[0]) for cell in row[2:4])
        assert best > worst


@pytest.mark.slow
def test_trunk_rows():
    head, rows = table(
        printed("benchmarks/trunk_rows.py", "--modalities", 2, "--steps", 5)
    )
    assert head[2:] == ["one batch", "a call for each", "ratio"]
    for row in rows:
        one, each, ratio = map(float, row[2:])
        assert ratio == pytest.approx(one / each, rel=0.1)


@pytest.mark.slow
def test_loading():
    head, rows = table(
        printed(
            "benchmarks/loading.py",
            *("--loaders", "crema_d", "av_mnist", "mm_imdb", "cmu_mosei"),
            *("--workers", 0, 2),
            *("--samples", 6, "--batch-size", 2),
        )
    )
    assert head == ["loader", "cache", "0 workers", "2 workers", "training"]
    assert [row[:2] for row in rows] == [
        ["crema_d", "none"],
        ["crema_d", "written"],
        ["crema_d", "read"],
        ["av_mnist", "none"],
        ["mm_imdb", "none"],
        ["mm_imdb", "written"],
        ["mm_imdb", "read"],
        ["cmu_mosei", "none"],
    ]
    for row in rows:
        assert all(float(cell) > 0 for cell in row[2:])


@pytest.mark.slow
def test_monitor_cost():
    head, (row,) = table(
        printed(
            "benchmarks/monitor_cost.py",
            *("--models", "mlp", "--objectives", 2, "--rounds", 2),
        )
    )
    assert head[3] == "a batch, in steps"
    assert row[:2] == ["mlp", "2"]
    median, low, high = map(float, re.findall(r"[\d.]+", row[3]))
    assert 0 < low <= median <= high


@pytest.mark.slow
def test_gradient_memory():
    on_torch = keras.backend.backend() == "torch"
    ways = ["1 part", "4 parts"] if on_torch else ["2 parts"]
    head, rows = table(
        printed(
            "benchmarks/gradient_memory.py",
            *("--backbone", "MobileNet", "--batch", 2, "--size", 32),
            *("--objectives", 4 if on_torch else 2, "--steps", 1),
            *("--ways", *ways),
        )
    )
    assert head == ["way", "MB of a step", "s a step", "times plain"]
    assert [row[0] for row in rows] == ["plain", *ways]
    for row in rows:
        assert all(float(cell) >= 0 for cell in row[1:])
    if on_torch:
        # Four gradients of 13 MB, of which a quarter is there at a time.
        plain, whole, parts = (float(row[1]) for row in rows)
        assert whole - plain > 30
        assert parts < whole - 20
