import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = [
    "MIMO",
    "Sum",
    "FAMO",
    "MGDA",
    "GradDrop",
    "MGDA, last block",
    "MGDA, representation",
    "MGDA every 8",
    "MGDA, kept weights",
]
NO_TARGET = ("FAMO", "MGDA every 8")


@pytest.mark.slow
def test_table_and_json_are_complete(tmp_path):
    """In a process of its own: the script binds itself to one core."""
    output = tmp_path / "results.json"
    command = [sys.executable, ROOT / "benchmarks" / "step_cost.py"]
    command += ["--models", "mlp", "--objectives", "2", "--rounds", "1"]
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [*command, "--output", output],
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr

    table = [line for line in process.stdout.splitlines() if line[:1] == "|"]
    assert len(table) == 3
    head, _, row = ([c.strip() for c in r.split("|")[1:-1]] for r in table)
    assert head[:11] == ["K", "plain ms", *COLUMNS]
    assert row[0] == "2"
    assert len(row) == len(head)
    assert all(row)

    report = json.loads(output.read_text())
    backend = keras.backend.backend()
    assert report["machine"]["backend"] == backend
    assert report["machine"]["keras"] == keras.__version__
    assert all(report["machine"].values())
    (result,) = report["results"]
    assert (result["model"], result["objectives"]) == ("mlp", 2)
    assert result["rounds"] == 1
    assert result["plain_milliseconds"]["median"] > 0
    assert [column["name"] for column in result["columns"]] == COLUMNS
    for column in result["columns"]:
        assert column["ratio"]["median"] > 0
        assert column["milliseconds"]["median"] > 0
        if column["name"] in NO_TARGET:
            assert column["met"] is column["target"] is None
        else:
            met = column["ratio"]["median"] <= column["target"]
            assert column["met"] is met
