import pytest

from tests.fashion_mnist import write_easy
from tests.scripts import printed
from tests.scripts import table


@pytest.mark.slow
def test_cosines_inside_and_between_groups(tmp_path):
    head, rows = table(
        printed(
            "benchmarks/group_agreement.py",
            *("--tasks", "fashion", "--losses", "LA"),
            *("--seeds", 3, "--groups", 1, 4),
            *("--data", write_easy(tmp_path)),
        )
    )
    titles = ["released", "average linkage", "ward", "random"]
    assert head == ["data", "loss", "groups", *titles]
    together, found = rows
    assert together[:3] == ["fashion", "LA", "1"]
    assert found[:3] == ["fashion", "LA", "4"]
    # One group is that of all methods, with no other beside it.
    assert len(set(together[3:])) == 1
    assert together[3].endswith(" / nan / 100")
    *_, ward, random = found
    inside, _, _, _, between, *_ = ward.split(" ")
    assert float(inside) > float(between)
    assert float(inside) > float(random.split(" ")[0])
