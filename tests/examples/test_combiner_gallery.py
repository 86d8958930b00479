import contextlib
import io
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from matplotlib import image

import keras_mimo
from keras_mimo import combiners
from keras_mimo.combiners.identifiers import names

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "combiner_gallery.py"


@pytest.fixture(scope="module")
def gallery():
    # It imports its neighbour, as a script can.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        import combiner_gallery

        yield combiner_gallery


def run(gallery, *arguments):
    """What the script prints, without a process of its own to start."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with contextlib.redirect_stdout(printed):
            gallery.main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("combiner_gallery")


@pytest.fixture(scope="module")
def printed(gallery, folder):
    options = "--seeds 1 --epochs 1 --steps 2 --combiners MGDA Sum".split()
    # A folder that does not exist.
    output = folder / "new" / "gallery.png"
    return run(gallery, *options, "--output", output)


@pytest.mark.slow
def test_the_table_is_markdown_and_complete(printed):
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    ]
    assert header == [
        "combiner",
        "family",
        "exercise, %",
        "speed, °/s",
        "paths that arrive",
    ]
    assert all(re.fullmatch(":-+", cell) for cell in rule[:2])
    assert all(re.fullmatch("-+:", cell) for cell in rule[2:])
    assert [row[:2] for row in rows] == [
        ["Sum", "losses only"],
        ["MGDA", "Gramian"],
        ["one net a task", ""],
        ["constant answer", ""],
    ]
    for row in rows:
        assert 0 < float(row[2]) < 100
        assert 10 < float(row[3]) < 100
    # Two steps are too few to get anywhere.
    assert [row[4] for row in rows] == ["0 of 3", "0 of 3", "", ""]
    alone, constant = ([float(c) for c in row[2:4]] for row in rows[2:])
    assert alone[0] > constant[0]


@pytest.mark.slow
def test_machine_backend_and_versions_are_named(printed):
    assert f"keras {keras.__version__}" in printed
    assert f"keras_mimo {keras_mimo.__version__}" in printed
    assert re.search(rf"{keras.backend.backend()} \d+\.\d+", printed)
    assert re.search(r"\d+ cores; .*; \d+ s in all", printed)


@pytest.mark.slow
def test_the_picture_is_drawn(printed):
    path = re.search(r"Picture: (\S+)", printed)[1]
    pixels = image.imread(path)
    height, width, _ = pixels.shape
    assert (width, height) == (1170, 1134)
    colors = (255 * pixels[..., :3]).round().astype(int)
    # Both families that were asked for, and the Pareto set.
    for shown in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0xF0, 0xE4, 0x42)):
        assert (colors == shown).all(-1).sum() > 100


# See the script for why.
LEFT_OUT = {"Krum", "GBlending", "ExcessMTL", "GradNorm", "PCD"}


def test_every_public_combiner_is_in_it(gallery):
    public = {
        type(combiners.get(name)).__name__.removesuffix("Combiner")
        for name in names()
    }
    others = {"Constant", "Smoothed(MGDA)", "Rescaled(MGDA)", "EveryN(MGDA)"}
    assert set(gallery.CLASSES) == public - LEFT_OUT | others
    for name, family in gallery.FAMILY.items():
        needs = gallery.make(name, gallery.SCALES).needs
        assert family == "wrappers" or family == {
            "losses": "losses only",
            "gramian": "Gramian",
            "gradients": "coordinates",
        }.get(needs)


def test_the_pareto_set_is_where_gradients_are_opposed(gallery):
    points = gallery.pareto_set()
    np.testing.assert_allclose(points[[0, -1]], gallery.MINIMA, atol=1e-6)
    for point in points[1:-1:20]:
        first, second = jacobian(gallery, point)
        lengths = np.linalg.norm(first) * np.linalg.norm(second)
        assert first @ second == pytest.approx(-lengths, rel=1e-3)


def jacobian(gallery, point):
    """By hand: the gradient of `scale * o' C o / 2` is `scale * C o`."""
    offsets = point - gallery.MINIMA
    gradients = np.einsum("kij,kj->ki", gallery.CURVATURES, offsets)
    return gradients * np.array(list(gallery.SCALES.values()))[:, None]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps"), [("MGDA", 300), ("UPGrad", 120)])
def test_paths_end_on_the_pareto_set(gallery, name, steps):
    """Not all of them at one point of it, as those of a scalar would."""
    paths = gallery.trajectories(name, steps)
    np.testing.assert_allclose(paths[:, 0], gallery.STARTS, atol=1e-6)
    ends = paths[:, -1]
    assert gallery.on_pareto_set(ends, tolerance=0.03).all()
    assert not gallery.on_pareto_set(paths[:, 0]).any()
    assert np.linalg.norm(ends[0] - ends[2]) > 0.3


@pytest.mark.slow
def test_the_sum_ends_where_the_formula_says(gallery):
    ends = gallery.trajectories("Sum", steps=150)[:, -1]
    minimum = gallery.minimizer([1, 1])
    np.testing.assert_allclose(ends, np.tile(minimum, (3, 1)), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Sum", "FAMO", "UPGrad", "TrimmedMean"])
def test_the_model_steps_as_the_combiner_says(gallery, name):
    """The same paths from the combiner on plain arrays, by hand."""
    steps = 12
    paths = gallery.trajectories(name, steps)
    for start, path in zip(gallery.STARTS, paths, strict=True):
        combiner = gallery.make(name, gallery.SCALES)
        combiner.build(list(gallery.SCALES))
        point = np.array(start)
        for step in range(steps):
            share = (1 + np.cos(np.pi * step / steps)) / 2
            update = direction(gallery, combiner, point)
            point = point - gallery.LEARNING_RATE * share * update
            if combiner.looks_again:
                combiner.after_step(losses(gallery, point))
            np.testing.assert_allclose(path[step + 1], point, atol=1e-4)


def losses(gallery, point):
    values = gallery.objectives(point.astype("float32"))
    return ops.stack(values)


def direction(gallery, combiner, point):
    rows = jacobian(gallery, point).astype("float32")
    if combiner.needs == "gradients":
        return ops.convert_to_numpy(combiner.combine(rows))
    weights = combiner(losses(gallery, point), rows @ rows.T)
    return ops.convert_to_numpy(weights) @ rows


def test_labels_cover_nothing(gallery):
    taken = [(0, 0, 10, 10), (12, 0, 30, 10)]
    half = np.array([5, 5])
    place = gallery.free_place(np.array([5, 5]), half, taken, (0, 0, 99, 99))
    low, high = place - half, place + half
    for box in taken:
        assert (high <= box[:2]).any() or (low >= box[2:]).any()


@pytest.mark.parametrize("option", ["--seeds", "--epochs", "--steps"])
def test_nothing_to_run(option, gallery, capsys):
    with pytest.raises(SystemExit):
        run(gallery, option, "0")
    assert "must be at least 1" in capsys.readouterr().err
