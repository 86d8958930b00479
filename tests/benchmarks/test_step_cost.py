import json

import keras
import pytest

from tests.scripts import printed
from tests.scripts import table

COLUMNS = [
    "MIMO",
    "Sum",
    "FAMO",
    "MGDA",
    "GradDrop",
    "MGDA, last block",
    "MGDA, representation",
    "MGDA, vectorised",
    "MGDA every 8",
    "MGDA, kept weights",
]


@pytest.mark.slow
def test_table_and_json_are_complete(tmp_path):
    """In a process of its own: the script binds itself to one core."""
    output = tmp_path / "results.json"
    head, (row,) = table(
        printed(
            "benchmarks/step_cost.py",
            *("--models", "mlp", "--objectives", 2, "--rounds", 1),
            *("--output", output),
        )
    )
    assert head == ["K", "plain ms", *COLUMNS]
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
