import json

import pytest

from benchmarks import multimodal_summary


def write(folder, method, seed, fused, calibrated, alone, validation=0.5):
    """A run, of two modalities whose loss leaves what the other has alone."""
    a, b = alone
    run = {
        "validation": {"accuracy": validation, "log_loss": 1.0},
        "fused": {"accuracy": fused},
        "calibrated": {"accuracy": calibrated},
        "alone": {"a": {"accuracy": a}, "b": {"accuracy": b}},
        "lost": {"a": {"accuracy": b}, "b": {"accuracy": a}},
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{method}_seed_{seed}-0123abcd.json"
    path.write_text(json.dumps(run))


@pytest.fixture
def kept(tmp_path):
    one, two = tmp_path / "one_late_Adam", tmp_path / "two_late_Adam"
    for seed, gain in enumerate([0.02, 0.04]):
        write(one, "sum", seed, 0.80, 0.80, (0.6, 0.5))
        write(one, "joint", seed, 0.80, 0.80 + gain, (0.7, 0.2))
    # A seed that the sum does not have says nothing.
    write(one, "joint", 2, 0.0, 0.0, (0.0, 0.0))
    write(two, "sum", 0, 0.50, 0.50, (0.5, 0.5))
    write(two, "joint", 0, 0.50, 0.51, (0.5, 0.4))
    # The penalty that is best on validation data, and not on test data.
    write(
        two,
        "MIMO_penalty_1_0_smoothing_0_1",
        0,
        0.9,
        0.9,
        (0.9, 0.9),
        validation=0.4,
    )
    write(
        two,
        "MIMO_penalty_10_0_smoothing_1_0",
        0,
        0.6,
        0.6,
        (0.6, 0.6),
        validation=0.6,
    )
    write(two, "sum_3_times_the_rate", 0, 0.5, 0.6, (0.5, 0.5))
    # Another optimizer, of which there are means of its own.
    write(tmp_path / "one_late_SGD", "sum", 0, 0.5, 0.5, (0.5, 0.5))
    # Of a comparison without the sum nothing can be said.
    write(tmp_path / "three_late_Adam", "joint", 0, 0.1, 0.1, (0.1, 0.1))
    (tmp_path / "one_late_Adam.csv").touch()
    return tmp_path


def test_tables_by_hand(kept, capsys):
    multimodal_summary.summary(kept)
    printed = capsys.readouterr().out
    # Means of 3 and 1, of -30 and -10, in two comparisons.
    assert (
        "| joint | +0.0 ± 0.0 | +2.0 ± 1.0 | -20.0 ± 10.0 | -20.0 ± 10.0 "
        "| 2, 3 |" in printed
    )
    assert "| MIMO | +10.0 | +10.0 | +10.0 | +10.0 | 1, 1 |" in printed
    assert "| two, late, Adam | 50.0 / 51.0, 50.0 / 40.0 |" in printed
    assert "60.0 / 60.0, 60.0 / 60.0 | 50.0 / 60.0, 50.0 / 50.0 |" in printed
    assert "| sum, 3 times the rate | +0.0 | +10.0 | +0.0 | +0.0 | 1, 1 |" in (
        printed
    )
    # 2 and 4: the mean of 3 ± 1 * 12.7, the quantile of one degree of freedom.
    assert "| one, late, Adam | +3.0 ± 12.7 | -30.0 ± 0.0 * |" in printed
    assert "three" not in printed
    adam, sgd = printed.index("Adam:\n"), printed.index("SGD:\n")
    assert adam < printed.index("| joint |") < sgd
    assert "| joint |" not in printed[sgd : printed.index("| comparison |")]
