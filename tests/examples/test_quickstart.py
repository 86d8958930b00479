import re
import sys

import keras
import numpy as np
import pytest
from matplotlib import image

import keras_mimo
from tests.scripts import ROOT
from tests.scripts import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def printed(folder):
    process = run(
        "examples/quickstart.py", "--seeds", "1", "--epochs", "1", cwd=folder
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.slow
def test_the_table_is_markdown_and_complete(printed):
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    ]
    assert header == [
        "accuracy in %",
        "fused",
        "accel alone",
        "gyro alone",
        "fused, accel lost",
        "fused, gyro lost",
    ]
    assert re.fullmatch(":-+", rule[0])
    assert all(re.fullmatch("-+:", cell) for cell in rule[1:])
    assert [row[0] for row in rows] == [
        "Intermediate: Joint loss",
        "Intermediate: Sum of losses",
        "Intermediate: MIMO",
        "Late: MIMO",
        "Early: Joint loss",
        "Early: MIMO",
    ]
    for row in rows:
        assert len(row) == len(header)
        assert all(0 < float(cell) < 100 for cell in row[1:])
    # One epoch is enough for two sensors to beat the most frequent class.
    assert all(float(row[1]) > 30 for row in rows)


@pytest.mark.slow
def test_every_run_has_a_bar_with_every_output(printed):
    bars = re.findall("^1/1 .*$", printed, re.MULTILINE)
    assert len(bars) == 6
    for bar in bars:
        assert re.search(r"fused: \S+ - accel: \S+ - gyro: \S+$", bar)


@pytest.mark.slow
def test_machine_backend_and_versions_are_named(printed):
    assert f"keras {keras.__version__}" in printed
    assert f"keras_mimo {keras_mimo.__version__}" in printed
    assert re.search(rf"{keras.backend.backend()} \d+\.\d+", printed)
    assert re.search(r"\d+ cores; .*; \d+ s in all", printed)


@pytest.mark.slow
def test_the_other_process_agrees(printed, folder):
    served = re.search(r"Served (\S+) in a process", printed)[1]
    assert served.endswith("served_model")
    assert (folder / served).exists()
    difference = re.search(r"difference between .* here (\S+)", printed)[1]
    assert float(difference) < 1e-4
    # The model served is that of intermediate fusion by MIMO.
    accuracy = re.search(r"^accuracy (\S+) %", printed, re.MULTILINE)[1]
    fused = re.search(
        r"^\| Intermediate: MIMO +\| +(\S+) \|", printed, re.MULTILINE
    )[1]
    assert float(accuracy) == pytest.approx(float(fused), abs=0.11)


@pytest.mark.slow
def test_the_picture_is_drawn(printed, folder):
    path = re.search(r"Training curves: (\S+)", printed)[1]
    pixels = image.imread(folder / path)
    height, width, _ = pixels.shape
    assert 1200 < width < 2400
    assert 500 < height < 1200
    colors = (255 * pixels[..., :3]).round().astype(int)
    for line in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0x66, 0x66, 0x66)):
        assert (colors == line).all(-1).sum() > 100


@pytest.mark.slow
def test_the_serving_process_cannot_import_the_package(tmp_path):
    inputs = keras.Input((2,), name="x")
    outputs = keras.layers.Dense(3)(inputs)
    np.savez(tmp_path / "x.npz", x=np.ones((4, 2), "float32"))
    for cls, readable in (
        (keras.Model, True),
        (keras_mimo.BalancedModel, False),
    ):
        cls(inputs, outputs).save(tmp_path / "model.keras")
        process = run(
            "examples/serve.py",
            "model.keras",
            "x.npz",
            "logits.npy",
            cwd=tmp_path,
        )
        assert (process.returncode == 0) == readable, process.stderr


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
def test_nothing_to_run(option, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import quickstart

    monkeypatch.setattr(sys, "argv", ["quickstart.py", option, "0"])
    with pytest.raises(SystemExit):
        quickstart.main()
    assert "must be at least 1" in capsys.readouterr().err
