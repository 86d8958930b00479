import re
import sys

import pytest
from matplotlib import image

from tests.datasets.emoji_files import write_emoji
from tests.scripts import ROOT
from tests.scripts import run

METHODS = [
    "joint",
    "joint, logit adjustment",
    "sum",
    "sum, logit adjustment",
    "MIMO",
    "MIMO, logit adjustment",
    "MIMO over pairs",
    "GBG over pairs, logit adjustment",
]


def tables(text):
    """The rows of the Markdown tables in a text, each a dict by method."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.splitlines()
        )
        found.append(
            {
                row[0]: dict(zip(head[1:], map(float, row[1:]), strict=True))
                for row in rows
            }
        )
    return found


@pytest.mark.slow
def test_tables_a_picture_and_a_model_that_is_served(tmp_path):
    arguments = ["--seeds", "1", "--epochs", "80", "--gbg"]
    arguments += ["--output", tmp_path / "out"]
    arguments += ["--data", write_emoji(tmp_path)]
    process = run("examples/image_text.py", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    printed = process.stdout
    assert "34 emoji to train on, 9 held out to calibrate, 18 to test" in (
        printed
    )
    assert "3 classes of 22 to 3 in training: 1 head, 1 medium, 1 tail" in (
        printed
    )
    fused, parts = tables(printed)
    rows = [name for m in METHODS for name in (m, f"{m}, calibrated")]
    assert list(fused) == list(parts) == rows
    for method, row in fused.items():
        assert list(row) == ["fused", "head", "medium", "tail"]
        mean = (row["head"] + row["medium"] + row["tail"]) / 3
        assert row["fused"] == pytest.approx(mean, abs=0.1)
        # Chance is 33 %, and a class can be told by one pixel or one word.
        assert row["fused"] > 60, method
    for method, row in parts.items():
        # By the learnt vector the fused output is that of the other alone.
        assert row["picture lost"] == row["keywords alone"]
        assert row["keywords lost"] == row["picture alone"]
        if not method.startswith("joint"):
            assert row["picture alone"] > 60
            assert row["keywords alone"] > 60
    difference = re.search(r"difference between .* here (\S+)", printed)[1]
    assert float(difference) < 1e-4
    height, width, _ = image.imread(tmp_path / "out" / "image_text.png").shape
    assert (width, height) == (1210, 1155)


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
def test_nothing_to_run(option, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import image_text

    monkeypatch.setattr(sys, "argv", ["image_text.py", option, "0"])
    with pytest.raises(SystemExit):
        image_text.main()
    assert "must be at least 1" in capsys.readouterr().err
