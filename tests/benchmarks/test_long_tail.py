import json

import numpy as np
import pytest

from tests.fashion_mnist import write_easy
from tests.scripts import printed
from tests.scripts import table

METHODS = ["CE", "frequency groups, LA", "GBG, LA + BCL"]


@pytest.mark.slow
def test_methods_for_long_tails(tmp_path):
    output = tmp_path / "results.json"
    head, rows = table(
        printed(
            "benchmarks/long_tail.py",
            *("--tasks", "fashion", "--seeds", 1, "--epochs", 12),
            *("--data", write_easy(tmp_path), "--output", output),
            *("--methods", *METHODS),
        )
    )
    assert head[:5] == ["method", "balanced", "head", "medium", "tail"]
    assert [row[0] for row in rows] == METHODS
    plain, *others = (
        [float(cell.split(" ±")[0]) for cell in row[1:5]] for row in rows
    )
    for balanced, *_ in others:
        # Chance is 10 %.
        assert balanced > 50
    for *_, tail in others[:-1]:
        assert tail > plain[3]
    results = json.loads(output.read_text())["results"]
    for result, row in zip(results, rows, strict=True):
        balanced = 100 * np.mean(result["recalls"])
        assert abs(float(row[1].split(" ±")[0]) - balanced) < 0.06
        assert sum(result["counts"]) > 2000


@pytest.mark.slow
def test_cost_of_groups():
    head, rows = table(
        printed(
            "benchmarks/group_cost.py",
            *("--models", "mlp", "--groups", 2, "--rounds", 1),
        )
    )
    assert head[3:] == ["exact", "every 8", "last block"]
    ((model, count, plain, *cells),) = rows
    assert (model, count) == ("MLP", "2")
    assert float(plain) > 0
    assert all(float(cell.split(" ")[0]) > 0 for cell in cells)
