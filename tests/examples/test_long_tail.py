import re
import sys

import pytest
from matplotlib import image

from tests.fashion_mnist import write_easy
from tests.scripts import ROOT
from tests.scripts import run


@pytest.mark.slow
def test_the_table_is_complete_and_a_picture_is_drawn(tmp_path):
    arguments = ["--seeds", "1", "--epochs", "12", "--output", tmp_path / "out"]
    arguments += ["--data", write_easy(tmp_path)]
    process = run("examples/long_tail.py", *arguments, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    rows = [x for x in process.stdout.splitlines() if x.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names[0] == "accuracy in %"
    assert names[2:] == ["cross-entropy", "logit adjustment", "GBG"]
    plain, *adjusted = (
        [float(cell) for cell in row.split("|")[2:-1]] for row in rows[2:]
    )
    for balanced, head, medium, tail in adjusted:
        # Chance is 10 %.
        assert balanced > 40
        assert abs(balanced - 0.3 * head - 0.4 * medium - 0.3 * tail) < 0.2
        # What a loss for long tails is there for.
        assert tail > plain[3]
    (groups,) = re.findall("^groups: (.*)$", process.stdout, re.MULTILINE)
    assert len(groups.split("; ")) == 4
    assert len(re.split(r"[;,] ", groups)) == 10
    height, width, _ = image.imread(tmp_path / "out" / "long_tail.png").shape
    assert width > 1.5 * height


def test_too_few_epochs(capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import long_tail

    monkeypatch.setattr(sys, "argv", ["long_tail.py", "--epochs", "5"])
    with pytest.raises(SystemExit) as error:
        long_tail.main()
    assert error.value.code == 2
    assert "--epochs at least 6" in capsys.readouterr().err
