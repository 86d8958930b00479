import pytest

from tests.scripts import printed
from tests.scripts import table


@pytest.mark.slow
def test_adam_divides_what_sgd_multiplies(tmp_path):
    picture = tmp_path / "weights.png"
    head, rows = table(
        printed(
            "benchmarks/weights_cancel.py",
            *("--seeds", 1, "--epochs", 1, "--picture", picture),
        )
    )
    assert head == ["factor", "0.1", "1", "10", "100"]
    adam, sgd, *accuracies = (list(map(float, row[1:])) for row in rows)
    assert max(adam) < 1.1 * min(adam)
    assert sgd[1] == 1 and sgd[2] > 3 and sgd[3] > 30
    assert len(accuracies) == 2
    assert picture.stat().st_size > 10_000
