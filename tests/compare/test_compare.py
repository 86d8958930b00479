import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_mimo
from keras_mimo.compare import step_time
from keras_mimo.compare import workers
from tests.compare.two_sensors import CLASSES
from tests.compare.two_sensors import build
from tests.compare.two_sensors import samples

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TRAIN, TEST = samples(120, seed=1), samples(150, seed=2)
VALIDATION = samples(60, seed=3)


def compare(methods, **options):
    options = {
        "train": TRAIN,
        "test": TEST,
        "compile": {"optimizer": keras.optimizers.Adam(0.05), "loss": LOSS},
        "fit": {"epochs": 3, "batch_size": 40},
        "verbose": 0,
        **options,
    }
    return keras_mimo.compare(build, methods=methods, **options)


@pytest.fixture(autouse=True, scope="module")
def short_times():
    """Steps are timed once: no test asserts a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_time, "_SECONDS", 0.0)
        patch.setattr(step_time, "_ROUNDS", 2)
        yield


# Without training.


def score(accuracy, loss=1.0):
    return {
        "accuracy": accuracy,
        "log_loss": loss,
        "calibration_error": 0.0,
    }


def record(validation, test):
    return {
        "validation": validation,
        "task": "classification",
        "samples": 10,
        "fused": test,
        "alone": {"clear": test, "noise": test},
        "lost": {"clear": test, "noise": test},
        "parts": {"clear": 0.0, "noise": 0.0},
    }


class Untrained:
    """In the place of training and timing: what is asked, and fixed scores."""

    def __init__(self):
        self.asked = []
        self.validation = self.test = lambda given, seed: score(0.5)
        self.before = lambda given, seed: None

    def __call__(self, setup, given, seed):
        self.before(given, seed)
        self.asked.append((given, seed))
        return record(self.validation(given, seed), self.test(given, seed))


@pytest.fixture
def untrained(monkeypatch):
    untrained = Untrained()
    monkeypatch.setattr(workers, "train_and_score", untrained)

    def timed(self, given):
        # The machine is twice as slow when the others are timed.
        plain = 1.0 if given == {"combiner": "sum"} else 2.0
        more = 0.0 if given == {"combiner": "sum"} else 0.5
        return {"plain": plain, "more": more, "quartiles": [more, more]}

    monkeypatch.setattr(step_time.StepClock, "__call__", timed)
    return untrained


PENALTIES = {"name": "MIMO", "combiner": "mimo", "penalty": [1.0, 3.0, 9.0]}


def test_options_are_chosen_on_validation_data(untrained):
    by_penalty = {None: 0.1, 1.0: 0.2, 3.0: 0.9, 9.0: 0.3}
    untrained.validation = lambda g, s: score(by_penalty[g.get("penalty")])
    # The test data would choose the worst.
    untrained.test = lambda g, s: score(1 - by_penalty[g.get("penalty")])
    result = compare([PENALTIES], seeds=3)
    method = result.methods[-1]
    assert method.chosen == {"penalty": 3.0}
    asked = [(g.get("penalty"), seed) for g, seed in untrained.asked]
    # All with the first seed, from then on the one that was chosen.
    assert asked == [
        *((None, 0), (1.0, 0), (3.0, 0), (9.0, 0)),
        *((None, 1), (None, 2), (3.0, 1), (3.0, 2)),
    ]
    assert list(method.runs) == [0, 1, 2]
    np.testing.assert_allclose(method.column("fused"), 10)
    assert "penalty=3.0, chosen of 3" in str(result)


def test_ties_go_to_the_lower_loss_then_to_the_first(untrained):
    losses = {None: 0, 1.0: 0.5, 3.0: 0.4, 9.0: 0.4}
    untrained.validation = lambda g, s: score(0.5, losses[g.get("penalty")])
    result = compare([PENALTIES], seeds=1)
    assert result.methods[-1].chosen == {"penalty": 3.0}


def test_options_are_averaged_over_tuning_seeds(untrained):
    found = {(1.0, 0): 0.9, (1.0, 1): 0.1, (3.0, 0): 0.6, (3.0, 1): 0.6}
    untrained.validation = lambda g, s: score(
        found.get((g.get("penalty"), s), 0.0)
    )
    assert compare([PENALTIES], seeds=2).methods[-1].chosen == {"penalty": 1.0}
    result = compare([PENALTIES], seeds=2, tuning_seeds=2)
    assert result.methods[-1].chosen == {"penalty": 3.0}


def test_an_option_that_fails_is_not_chosen(untrained):
    def diverge(given, seed):
        if given.get("penalty") in failing:
            raise FloatingPointError("not finite")

    untrained.before = diverge
    failing = {1.0, 9.0}
    method = compare([PENALTIES], seeds=2).methods[-1]
    assert method.chosen == {"penalty": 3.0} and method.error is None
    assert method.tried[0]["error"] == "FloatingPointError: not finite"
    failing = {1.0, 3.0, 9.0}
    method = compare([PENALTIES], seeds=2).methods[-1]
    assert "with all options: FloatingPointError" in method.error


def test_a_method_that_fails_is_a_row_and_the_rest_goes_on(untrained):
    def fail(given, seed):
        if given.get("combiner") == "mgda" and seed == 1:
            raise MemoryError("too large")

    untrained.before = fail
    result = compare(["mgda", "mimo"], seeds=3)
    errors = {m.name: m.error for m in result.methods}
    assert errors == {
        "sum": None,
        "mgda": "seed 1: MemoryError: too large",
        "mimo": None,
    }
    # No time is spent on its other seeds.
    assert ({"combiner": "mgda"}, 2) not in untrained.asked
    assert "mgda failed: seed 1: MemoryError" in str(result)


def test_it_goes_on_where_it_was_stopped(untrained, tmp_path):
    def stop(given, seed):
        if (given.get("combiner"), seed) == ("mimo", 1):
            raise KeyboardInterrupt

    options = {"seeds": 2, "folder": tmp_path}
    untrained.before = stop
    with pytest.raises(KeyboardInterrupt):
        compare(["joint", "mimo"], **options)
    done = list(untrained.asked)
    assert len(done) == 5
    # As a process leaves it that is killed while it writes.
    (kept,) = tmp_path.glob("joint_seed_0-*.json")
    kept.unlink()
    (tmp_path / f"unfinished_{kept.name}").write_text("{")

    untrained.before = lambda given, seed: None
    first = compare(["joint", "mimo"], **options)
    assert untrained.asked[5:] == [({}, 0), ({"combiner": "mimo"}, 1)]
    again = compare(["joint", "mimo"], **options)
    assert len(untrained.asked) == 7
    assert str(again) == str(first)
    # Another name is no other run.
    compare([{"name": "MIMO", "combiner": "mimo"}], **options)
    assert len(untrained.asked) == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"fit": {"epochs": 4, "batch_size": 40}},
        {"compile": {"optimizer": keras.optimizers.Adam(0.06), "loss": LOSS}},
        {"train": samples(120, seed=9)},
        {"test": samples(150, seed=9)},
        {"validation": VALIDATION},
        {"calibrate": False},
        {"methods": [{"name": "sum", "combiner": "sum", "learning_rate": 0.1}]},
    ],
)
def test_what_is_changed_is_done_again(untrained, tmp_path, changed):
    options = {"seeds": 1, "folder": tmp_path, "methods": ["sum"]}
    compare(**options)
    compare(**options)
    assert len(untrained.asked) == 1
    compare(**{**options, **changed})
    assert len(untrained.asked) == 2


def test_another_model_is_another_run(untrained, tmp_path):
    def wider():
        encoders = {
            name: keras.Sequential(
                [keras.Input((width,)), keras.layers.Dense(9)]
            )
            for name, width in (("clear", 6), ("noise", 4))
        }
        return keras_mimo.late_fusion(encoders, CLASSES)

    options = {"seeds": 1, "folder": tmp_path}
    compare(["sum"], **options)
    compare([{"name": "wider", "build": wider}], **options)
    assert len(untrained.asked) == 2
    assert untrained.asked[1][0] == {"build": wider}


def test_times_are_in_units_of_the_sum(untrained):
    result = compare(["mimo"], seeds=1)
    assert result.column("sum", "ms/step") == 1000
    assert result.column("sum", "ms more") == 0
    assert result.column("mimo", "ms/step") == 1500
    assert result.column("mimo", "ms more") == 500


def test_how_far_it_is(untrained, capsys):
    compare(["joint"], seeds=2, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        f"[{done}/6]" for done in range(1, 7)
    ]
    assert lines[0].startswith("[1/6] 0:00:00 left; sum, seed 0: fused 50")


def test_errors():
    with pytest.raises(ValueError, match="`seeds` must be"):
        compare(["sum"], seeds=0)
    with pytest.raises(TypeError, match="`train` must be"):
        compare(["sum"], train=TRAIN[0])
    with pytest.raises(TypeError, match="`callbacks` must be a function"):
        compare(["sum"], fit={"callbacks": []})
    with pytest.raises(ValueError, match="`validation` must be given"):
        compare(["sum"], train=Batches(*TRAIN))
    with pytest.raises(ValueError, match="another process can import"):
        compare([{"name": "a", "build": lambda: build()}], processes=2)


# With training.


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.data = x, y

    def __len__(self):
        return len(self.data[1]) // 30

    def __getitem__(self, index):
        x, y = self.data
        chosen = slice(30 * index, 30 * (index + 1))
        return {k: v[chosen] for k, v in x.items()}, y[chosen]


def test_a_row_has_all_scores():
    result = compare(["sum"], seeds=1)
    assert result.titles == [
        *("fused", "calibrated", "clear alone", "noise alone", "worst alone"),
        *("worst lost", "clear part", "noise part", "log loss"),
        *("ms/step", "ms more"),
    ]
    columns = {title: result.column("sum", title) for title in result.titles}
    assert all(np.isfinite(values).all() for values in columns.values())
    assert columns["clear part"] > columns["noise part"]
    assert columns["clear alone"] > columns["noise alone"]
    assert columns["worst alone"] == columns["noise alone"]


@pytest.mark.slow
def test_methods_start_alike_and_see_the_same_batches():
    # The same as the sum, but for its key.
    same = {"name": "same", "combiner": "sum", "learning_rate": 0.05}
    result = compare(["joint", "sum", same], seeds=2)
    joint, sums, same = result.methods
    for seed in (0, 1):
        assert sums.runs[seed] == same.runs[seed]
    assert result.difference("same") == (0.0, 0.0)
    assert joint.runs[0] != sums.runs[0] != sums.runs[1]


@pytest.mark.slow
def test_modulations_by_name_and_by_class():
    methods = [
        "ogm",
        {
            "name": "MSLR",
            "modulation": keras_mimo.modulations.MSLR,
            "combiner": "sum",
            "validate": True,
            "metrics": ["accuracy"],
        },
    ]
    result = compare(methods, seeds=1)
    for method in result.methods:
        assert method.error is None and "error" not in method.time


@pytest.mark.slow
def test_the_test_data_choose_nothing():
    x, y = TEST
    # Where the test labels are others, what learns nothing is best there.
    result = compare(
        [{"name": "rates", "combiner": "sum", "learning_rate": [1e-6, 0.05]}],
        test=(x, (y + 1) % CLASSES),
        validation=VALIDATION,
        seeds=1,
    )
    method = result.methods[-1]
    assert method.chosen == {"learning_rate": 0.05}
    low, high = (t["validation"]["accuracy"] for t in method.tried)
    assert low < high
    assert method.column("fused") < 20


@pytest.mark.slow
def test_a_regression():
    def build_one():
        encoders = {
            name: keras.Sequential([keras.Input((w,)), keras.layers.Dense(4)])
            for name, w in (("clear", 6), ("noise", 4))
        }
        return keras_mimo.late_fusion(encoders, 1)

    (x, _), (x_test, _) = TRAIN, TEST
    result = keras_mimo.compare(
        build_one,
        (x, x["clear"].sum(axis=1)),
        (x_test, x_test["clear"].sum(axis=1)),
        methods=["mimo"],
        compile={"optimizer": keras.optimizers.Adam(0.03), "loss": "mse"},
        fit={"epochs": 10, "batch_size": 40},
        seeds=1,
        verbose=0,
    )
    assert [m.error for m in result.methods] == [None, None]
    assert result.column("sum", "clear part") > 1
    assert result.column("sum", "fused") < result.column("sum", "noise alone")


@pytest.mark.slow
def test_datasets_and_methods_that_validate():
    seen, held_out = [], Batches(*VALIDATION)

    class See(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append("val_loss" in logs)

    def callbacks(validation):
        assert validation is held_out
        return [See()]

    method = {
        "name": "looks",
        "combiner": "mimo",
        "callbacks": callbacks,
        "validate": True,
    }
    result = compare(
        [method],
        train=Batches(*TRAIN),
        test=Batches(*TEST),
        validation=held_out,
        fit={"epochs": 2},
        seeds=1,
        probe=True,
    )
    assert seen == [True, True]
    assert [m.error for m in result.methods] == [None, None]
    assert result.column("looks", "clear probe") > 60
    assert result.column("looks", "noise probe") < 60


@pytest.mark.slow
def test_callbacks_get_the_data_of_the_run():
    parts = []

    def callbacks(train, validation):
        parts.append((train, validation))
        return []

    method = {"name": "looks", "combiner": "sum", "callbacks": callbacks}
    result = compare([method], seeds=2, calibrate=False)
    assert result.methods[-1].error is None
    for (x, y), (held_out_x, held_out_y) in parts:
        assert len(y) + len(held_out_y) == 120
        assert 20 <= len(held_out_y) <= 28
        rows = {row.tobytes() for row in x["noise"]}
        assert not any(row.tobytes() in rows for row in held_out_x["noise"])
    assert not np.array_equal(parts[0][1][1], parts[1][1][1])


@pytest.mark.slow
@pytest.mark.slow
def test_a_method_may_have_epochs_of_its_own():
    seen = []

    def callbacks():
        def count(epoch, logs):
            seen.append(epoch)

        return [keras.callbacks.LambdaCallback(on_epoch_end=count)]

    compare([{"name": "longer", "epochs": 5, "callbacks": callbacks}], seeds=1)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_what_fails_in_training_is_a_row():
    def fails():
        raise RuntimeError("no such callback")

    methods = [
        {"name": "callback", "combiner": "sum", "callbacks": fails},
        {"name": "combiner", "combiner": "no_such"},
        {"name": "nan", "combiner": "sum", "learning_rate": float("inf")},
    ]
    result = compare(methods, seeds=1)
    sums, *others = result.methods
    assert sums.error is None
    for method, said in zip(
        others, ("no such callback", "no_such", "must be finite"), strict=True
    ):
        assert said in method.error, method.name


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path):
    options = {"seeds": 2, "folder": tmp_path / "two", "processes": 2}
    methods = [
        "joint",
        {"name": "MIMO", "combiner": "mimo", "penalty": [0.5, 5.0]},
        {"name": "broken", "combiner": "no_such"},
    ]
    two = compare(methods, **options)
    one = compare(methods, **{**options, "folder": None, "processes": 1})
    assert [m.error is None for m in two.methods] == [True, True, True, False]
    for name in ("sum", "joint", "MIMO"):
        for title in ("fused", "calibrated", "log loss"):
            np.testing.assert_allclose(
                two.column(name, title), one.column(name, title), rtol=1e-3
            )
    assert two.methods[2].chosen == one.methods[2].chosen


def command(tmp_path, *arguments):
    root = Path(__file__).parents[2]
    search_path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "error::RuntimeWarning"),
            *("-m", "keras_mimo.compare"),
            str(Path(__file__).with_name("two_sensors.py")),
            *("--folder", str(tmp_path / "runs")),
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": search_path},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on(tmp_path):
    arguments = ("--seeds", 3, "--epochs", 2, "--methods", "sum", "mimo")
    process = command(tmp_path, *arguments)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("runs/sum_seed_1-*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/[!u]*.json")}
    assert len(done) < 6
    process = command(tmp_path, *arguments, "--csv", tmp_path / "table.csv")
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in done} == done
    rows = [line.split()[0] for line in printed.splitlines() if "±" in line]
    assert rows[:2] == ["sum", "mimo"]
    head = (tmp_path / "table.csv").read_text().splitlines()[0]
    assert "clear alone" in head
    records = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*.json")]
    assert len(records) == 6 + 2
