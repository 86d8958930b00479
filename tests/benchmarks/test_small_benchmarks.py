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
