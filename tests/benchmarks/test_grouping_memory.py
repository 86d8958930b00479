import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_table_is_complete():
    """In a process of its own, whose memory it measures."""
    command = [sys.executable, ROOT / "benchmarks" / "grouping_memory.py"]
    command += ["--classes", "8", "--samples", "2", "--groups", "2"]
    command += ["--units", "16", "8", "--projection", "64"]
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr

    lines = process.stdout.splitlines()
    assert lines[0].startswith(
        f"{keras.backend.backend()} · 8 classes · {768 * 16 + 16 * 8 + 24} "
    )
    table = [line for line in lines if line[:1] == "|"]
    head, _, *rows = ([c.strip() for c in r.split("|")[1:-1]] for r in table)
    assert [r[0] for r in rows] == [
        "all variables, projected to 64",
        "last layer, exact",
    ]
    for cells in (dict(zip(head, r, strict=True)) for r in rows):
        assert cells["samples"] == "16"
        assert cells["under 2 GiB"] == "yes"
        assert int(cells["peak MiB"]) > int(cells["above bare MiB"]) >= 0
        assert sum(map(int, cells["group sizes"].split())) == 8
