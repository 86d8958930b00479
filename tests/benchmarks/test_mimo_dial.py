import sys
from pathlib import Path

import numpy as np
import pytest
from keras import ops

import keras_mimo
from tests.scripts import printed

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def mimo_dial():
    # It imports its neighbours, as a script can.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        import mimo_dial

        yield mimo_dial


@pytest.mark.slow
def test_the_script_runs_and_is_taken_up_again(tmp_path):
    arguments = (
        *("--sets", "digits", "--epochs", 1, "--folds", 1),
        *("--fusions", "late", "early"),
        *("--penalties", 1, "--smoothings", 0.1, 1),
        *("--output", tmp_path / "runs.json"),
    )
    first, again = (
        printed("benchmarks/mimo_dial.py", *arguments).splitlines()
        for _ in range(2)
    )
    # All but the seconds, without a run.
    assert first[:-1] == again[:-1]
    rows = [line.split("|")[1].strip() for line in first if line[:1] == "|"]
    pairs = ["joint", "1 / 0.1", "1 / 1"]
    assert rows == [
        *("sum: fused / worst modality", ":---", "digits"),
        *("lambda / mu", ":---", *pairs),
        *("fused", ":---", *pairs),
    ]
    assert "the present default, 1 / 0.1: " in first[-3]


def test_numbers_that_are_variables_change_no_weight(mimo_dial):
    losses = ops.convert_to_tensor([0.5, 1.0, 1.2, 0.9])
    names = ["fused", "a", "b", "c"]
    dialled = mimo_dial.Dialled()
    dialled.build(names)
    for penalty, smoothing in ((3.0, 0.1), (0.3, 1.0)):
        dialled.penalty.assign(penalty)
        dialled.smoothing.assign(smoothing)
        plain = keras_mimo.MIMOCombiner(penalty=penalty, smoothing=smoothing)
        plain.build(names)
        np.testing.assert_allclose(
            ops.convert_to_numpy(dialled(losses)),
            ops.convert_to_numpy(plain(losses)),
            rtol=1e-6,
        )
    penalty, smoothing = mimo_dial.numbers(mimo_dial.SUM, modalities=3)
    dialled.penalty.assign(penalty)
    dialled.smoothing.assign(smoothing)
    np.testing.assert_allclose(
        ops.convert_to_numpy(dialled(losses)), np.ones(4), rtol=1e-5
    )


def test_the_rule(mimo_dial):
    def by_set(**fused_and_worst):
        return {k: np.array(v, float).T for k, v in fused_and_worst.items()}

    # "level" is half a standard error below "best", "low" all of two.
    best = [1, 2, 3], [0, 0, 0]
    level = [1, 1, 3.5], [5, 5, 5]
    low = [0.7, 1.7, 2.8], [9, 9, 9]
    found = mimo_dial.choose(by_set(best=best, level=level, low=low), "best")
    assert found == ("best", ["best", "level"], "level", False)
    # A default whose worst modality is within noise of the chosen one stays.
    near = [1, 2, 3], [4, 4, 6.5]
    *_, chosen, stays = mimo_dial.choose(by_set(near=near, level=level), "near")
    assert (chosen, stays) == ("level", True)


def test_a_fold_leaves_what_it_holds_out(mimo_dial):
    train, _ = mimo_dial.TASKS["digits"].load()
    (x, y), (x_out, y_out) = mimo_dial.fold_of("digits", train, 0)
    assert len(y) % mimo_dial.BATCH == 0
    assert len(train[1]) - mimo_dial.BATCH < len(y) + len(y_out)
    rows = {tuple(np.r_[a, b]) for a, b in zip(*x.values(), strict=True)}
    held_out = [np.r_[a, b] for a, b in zip(*x_out.values(), strict=True)]
    assert not any(tuple(row) in rows for row in held_out)
