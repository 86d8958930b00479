"""Benchmarks of one table each, run small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def table(script, *arguments):
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *arguments],
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line[:1] == "|"]
    return [[c.strip() for c in line.split("|")[1:-1]] for line in lines]


@pytest.mark.slow
def test_half_precision():
    head, _, *rows = table(
        "half_precision.py",
        *("--combiners", "MGDA", "--seeds", "1", "--epochs", "1"),
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
    head, _, *rows = table(
        "many_objectives.py", "--objectives", "2", "3", "--rounds", "1"
    )
    assert head == ["objectives", "plain", "MIMO", "MGDA"]
    assert [row[0] for row in rows] == ["2", "3"]
    for row in rows:
        for cell in row[1:]:
            low, high = (float(part) for part in cell.split(" to "))
            assert 0 <= low == high
