import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
# Of rows, of the Gramian, and one that K = 2 is too few for.
METHODS = ["Mean", "MGDA", "Krum"]


@pytest.mark.slow
def test_table_and_json_are_complete(tmp_path):
    """In a process of its own: the script binds itself to one core."""
    output = tmp_path / "results.json"
    command = [sys.executable, ROOT / "benchmarks" / "combiner_latency.py"]
    command += ["--methods", *METHODS, "--objectives", "2", "4"]
    command += ["--rounds", "2", "--seeds", "7", "--output", output]
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr

    machine, seeds = process.stdout.splitlines()[:2]
    version = importlib.metadata.version("torchjd")
    assert keras.__version__ in machine.split(" · ")
    assert version in machine.split(" · ")
    assert "[7]" in seeds
    table = [line for line in process.stdout.splitlines() if line[:1] == "|"]
    head, _, *rows = ([c.strip() for c in r.split("|")[1:-1]] for r in table)
    assert head == ["method", "rows", "K = 2", "K = 4"]
    kinds = [[m, p] for m in METHODS for p in ("random", "opposing")]
    assert [row[:2] for row in rows] == kinds
    assert [[c != "" for c in row[2:]] for row in rows] == [
        [method != "Krum", True] for method, _ in kinds
    ]

    report = json.loads(output.read_text())
    assert report["machine"]["backend"] == keras.backend.backend()
    assert report["machine"]["torchjd"] == version
    assert len(report["results"]) == 10
    cells = {
        (row[0], row[1], count): cell
        for row in rows
        for count, cell in zip((2, 4), row[2:], strict=True)
    }
    for result in report["results"]:
        assert result["rounds"] == 2
        assert result["seeds"] == [7]
        own, other, ratio = (
            result[key]["median"]
            for key in ("own_microseconds", "torchjd_microseconds", "ratio")
        )
        place = result["method"], result["problem"], result["objectives"]
        assert cells[place] == f"{ratio:.2f} ({own:.0f} : {other:.0f})"
        # The median of two ratios lies between those of the extremes.
        lowest, highest = (
            result["own_microseconds"][a] / result["torchjd_microseconds"][b]
            for a, b in (
                ("lower_quartile", "upper_quartile"),
                ("upper_quartile", "lower_quartile"),
            )
        )
        assert 0 < lowest * 0.5 < ratio < highest * 2


@pytest.mark.slow
def test_nothing_is_written_unasked(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "combiner_latency.py"]
    command += ["--methods", "Sum", "--objectives", "2"]
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "invalid choice: 'Sum'" in process.stderr
    assert list(tmp_path.iterdir()) == []
