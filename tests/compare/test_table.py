import csv

import numpy as np
import pytest
from scipy import stats

from keras_mimo.compare import Comparison
from keras_mimo.compare import MethodRuns
from keras_mimo.compare.intervals import paired_interval

SEEDS = [0, 1, 2, 3]


def record(fused, clear=0.7):
    def score(accuracy):
        return {
            "accuracy": accuracy,
            "log_loss": 1 - accuracy,
            "calibration_error": 0.1,
        }

    return {
        "task": "classification",
        "samples": 40,
        "fused": score(fused),
        "alone": {"clear": score(clear), "noise": score(0.3)},
        "lost": {"clear": score(0.35), "noise": score(fused)},
        "parts": {"clear": 0.4, "noise": 0.0},
    }


def runs(name, fused, error=None, **options):
    found = {} if error else dict(zip(SEEDS, map(record, fused), strict=True))
    options = {"chosen": {}, "tried": [], "time": None, **options}
    return MethodRuns(name, runs=found, error=error, **options)


SUM = [0.70, 0.60, 0.65, 0.71]
# A gain in every seed, smaller than the spread over the seeds.
BETTER = [0.72, 0.63, 0.67, 0.72]
NOISE = [0.76, 0.55, 0.71, 0.66]


@pytest.fixture
def comparison():
    time = {"seconds": 0.002, "more": 0.0004, "quartiles": [3e-4, 6e-4]}
    return Comparison(
        [
            runs("sum", SUM),
            runs("better", BETTER, chosen={"penalty": 3.0}, time=time),
            runs("noise", NOISE, time={"error": "ValueError: no time"}),
            runs("broken", [], error="seed 0: ValueError: no, | not that"),
        ],
        "sum",
        SEEDS,
    )


def test_the_interval_is_that_of_a_paired_test():
    values, others = 100 * np.array(BETTER), 100 * np.array(SUM)
    expected = stats.ttest_rel(values, others).confidence_interval(0.95)
    mean, half = paired_interval(values, others)
    assert mean == pytest.approx(np.mean(values - others))
    np.testing.assert_allclose([mean - half, mean + half], expected)


def test_one_seed_has_no_interval():
    assert paired_interval([2.0], [1.5]) == (0.5, np.inf)


def test_columns_and_differences(comparison):
    np.testing.assert_allclose(
        comparison.column("better", "fused"), 100 * np.array(BETTER)
    )
    assert comparison.column("better", "worst lost")[0] == pytest.approx(35)
    assert comparison.column("better", "worst alone")[0] == pytest.approx(30)
    assert comparison.column("broken", "fused") is None
    assert comparison.difference("broken") is None
    mean, half = comparison.difference("better")
    assert mean > half > 0
    mean, half = comparison.difference("noise")
    assert abs(mean) < half
    with pytest.raises(ValueError, match="`method` must be one of"):
        comparison.column("none", "fused")


def test_printed_it_fits_a_terminal(comparison, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = str(comparison)
    assert max(map(len, text.splitlines())) <= 60
    rows = {line.split()[0]: line for line in text.splitlines()[:5]}
    assert "failed" in rows["broken"]
    assert "*" in rows["better"] and "*" not in rows["noise"]
    assert "66.5 ± 5.1" in rows["sum"]
    flat = " ".join(text.split())
    assert "broken failed: seed 0: ValueError: no, | not that" in flat
    assert "noise not timed: ValueError: no time" in flat
    assert "better: penalty=3.0, chosen of 0 on validation data" in flat
    assert "+0.40 ± 0.15" in text


def test_markdown_and_csv(comparison, tmp_path):
    lines = comparison.to_markdown().splitlines()
    head, *rows = [line.split("|")[1:-1] for line in lines if line[:1] == "|"]
    assert len(rows) == 1 + 4
    assert {len(row) for row in rows} == {len(head)}
    comparison.to_csv(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [
        *("sum", "better", "noise", "broken")
    ]
    assert float(rows[1]["fused - sum"]) == pytest.approx(2.0)
    assert float(rows[1]["fused, standard deviation"]) == pytest.approx(
        100 * np.std(BETTER, ddof=1)
    )
    assert rows[3]["error"].startswith("seed 0") and rows[3]["fused"] == ""


def test_errors_of_a_regression_keep_their_digits():
    def record(fused):
        score = {"mean_squared_error": fused}
        return {
            "task": "regression",
            "samples": 40,
            "fused": score,
            "alone": {"clear": score, "noise": {"mean_squared_error": 0.02}},
            "lost": {"clear": {"mean_squared_error": 0.03}, "noise": score},
            "parts": {"clear": 0.004, "noise": 0.0},
        }

    def runs(name, fused):
        found = dict(zip(SEEDS, map(record, fused), strict=True))
        return MethodRuns(name, {}, [], found, None, None)

    sums, better = [0.011, 0.012, 0.013, 0.012], [0.010, 0.011, 0.012, 0.011]
    comparison = Comparison(
        [runs("sum", sums), runs("b", better)], "sum", SEEDS
    )
    text = str(comparison)
    assert "0.012 ± 0.000816" in text
    assert "-0.001 ± " in text
    assert "Mean squared error on 40 test samples" in text
    # The worst is the largest.
    assert comparison.column("sum", "worst alone")[0] == 0.02
    assert comparison.column("sum", "worst lost")[0] == 0.03
    assert "log loss" not in comparison.titles


def test_a_picture(comparison, tmp_path):
    comparison.plot(tmp_path / "table.png")
    assert (tmp_path / "table.png").stat().st_size > 10_000
    broken = Comparison([runs("sum", [], error="no")], "sum", SEEDS)
    with pytest.raises(ValueError, match="did not fail"):
        broken.plot(tmp_path / "none.png")
    assert "failed" in str(broken)
