import sys

import numpy as np
import pytest

from tests.scripts import ROOT
from tests.scripts import printed
from tests.scripts import table


@pytest.mark.slow
def test_the_dry_run_trains_saves_and_scores(tmp_path):
    methods = ["joint", "sum", "MIMO"]
    text = printed(
        *("examples/crema_d.py", "--dry-run", "--methods", *methods),
        cwd=tmp_path,
    )
    head, rows = table(text)
    assert head == ["trained", "fused", "audio", "image"]
    assert [row[0] for row in rows] == methods
    for row in rows:
        accuracies = [float(cell.split(" ±")[0]) for cell in row[1:]]
        # Of six clips, each of another class.
        sixths = np.array(accuracies) * 6 / 100
        np.testing.assert_allclose(sixths, sixths.round(), atol=0.01)
    assert "on 6 test clips" in text
    for method in methods:
        assert (tmp_path / "crema_d_output" / f"{method}_0.keras").exists()
        log = (tmp_path / "crema_d_output" / f"{method}_0.csv").read_text()
        assert "val_image_accuracy" in log and len(log.splitlines()) == 2


@pytest.mark.parametrize("given", [[], ["--dry-run", "--data", "x"]])
def test_the_data_or_a_dry_run(given, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import crema_d

    monkeypatch.setattr(sys, "argv", ["crema_d.py", *given])
    with pytest.raises(SystemExit):
        crema_d.main()
    assert "either --data or --dry-run" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import crema_d

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["crema_d.py", "--data", "nowhere"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        crema_d.main()
