import keras
import pytest

from tests.scripts import printed
from tests.scripts import table


@pytest.mark.slow
def test_table_is_complete():
    """In a process of its own, whose memory it measures."""
    text = printed(
        "benchmarks/grouping_memory.py",
        *("--classes", 8, "--samples", 2, "--groups", 2),
        *("--units", 16, 8, "--projection", 64),
    )
    assert text.startswith(
        f"{keras.backend.backend()} · 8 classes · {768 * 16 + 16 * 8 + 24} "
    )
    head, rows = table(text)
    assert [r[0] for r in rows] == [
        "all variables, projected to 64",
        "last layer, exact",
    ]
    for cells in (dict(zip(head, r, strict=True)) for r in rows):
        assert cells["samples"] == "16"
        assert cells["under 2 GiB"] == "yes"
        assert int(cells["peak MiB"]) > int(cells["above bare MiB"]) >= 0
        assert sum(map(int, cells["group sizes"].split())) == 8
