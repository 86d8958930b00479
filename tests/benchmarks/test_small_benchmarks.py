"""Benchmarks of one table each, run small."""

import pytest

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
