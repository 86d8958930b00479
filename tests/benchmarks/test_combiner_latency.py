import importlib.metadata
import json

import keras
import pytest

from tests.scripts import printed
from tests.scripts import run
from tests.scripts import table

# Of rows, of the Gramian, and one that K = 2 is too few for.
METHODS = ["Mean", "MGDA", "Krum"]


@pytest.mark.slow
def test_table_and_json_are_complete(tmp_path):
    """In a process of its own: the script binds itself to one core."""
    output = tmp_path / "results.json"
    text = printed(
        "benchmarks/combiner_latency.py",
        *("--methods", *METHODS, "--objectives", 2, 4),
        *("--rounds", 2, "--seeds", 7, "--output", output),
    )

    machine, seeds = text.splitlines()[:2]
    version = importlib.metadata.version("torchjd")
    assert keras.__version__ in machine.split(" · ")
    assert version in machine.split(" · ")
    assert "[7]" in seeds
    head, rows = table(text)
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
    process = run(
        "benchmarks/combiner_latency.py",
        *("--methods", "Sum", "--objectives", 2),
        cwd=tmp_path,
    )
    assert process.returncode == 2
    assert "invalid choice: 'Sum'" in process.stderr
    assert list(tmp_path.iterdir()) == []
