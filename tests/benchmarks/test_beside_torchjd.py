import json

import keras
import pytest

from tests.scripts import printed
from tests.scripts import run

ON_TORCH = keras.backend.backend() == "torch"


@pytest.mark.slow
@pytest.mark.skipif(not ON_TORCH, reason="TorchJD is for PyTorch")
def test_tables_and_json_are_complete(tmp_path):
    """In a process of its own: the script binds itself to one core."""
    output = tmp_path / "results.json"
    text = printed(
        "benchmarks/beside_torchjd.py",
        *("--quick", "--models", "mlp", "--objectives", 2, "--rounds", 1),
        *("--methods", "MGDA", "PCGrad", "--output", output),
    )
    titles = [line for line in text.splitlines() if line.startswith("###")]
    assert [title.split(": ")[0] for title in titles] == [
        "### mlp",
        "### mlp",
        "### microseconds from a Gramian to the weights",
    ]
    report = json.loads(output.read_text())
    (steps,), (memory,) = report["steps"], report["memory"]
    for part in (steps, memory):
        assert (part["model"], part["objectives"]) == ("mlp", 2)
        names = [result["method"] for result in part["methods"]]
        assert names == ["MGDA", "PCGrad"]
    assert all(time["median"] > 0 for time in steps["plain"].values())
    # A row of gradients of the MLP has more than a megabyte.
    for result in memory["methods"]:
        assert result["own"] > memory["plain"]["own"] + 1
        assert result["torchjd"] > memory["plain"]["torchjd"] + 1
    weights = [(w["method"], w["objectives"]) for w in report["weights"]]
    assert weights == [(m, k) for m in ("MGDA", "PCGrad") for k in (4, 16)]
    assert all(w["own"]["median"] > 0 for w in report["weights"])


@pytest.mark.slow
@pytest.mark.skipif(ON_TORCH, reason="it runs there")
def test_other_backends_are_refused():
    process = run("benchmarks/beside_torchjd.py")
    assert process.returncode == 1
    assert "set KERAS_BACKEND=torch" in process.stderr
