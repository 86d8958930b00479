import numpy as np
import pytest

from keras_mimo.datasets import load_ur_funny
from tests.datasets.affect_files import multibench
from tests.datasets.affect_files import write


@pytest.mark.parametrize("other", [0, -1])
def test_samples_and_labels(tmp_path, other):
    data = multibench(371, 81, 300, [1, other])
    # As in the real file, of integers.
    for part in data.values():
        part["labels"] = part["labels"][:, 0].astype("int64")
    path = write(tmp_path / "humor.pkl", data)
    train, _, test = load_ur_funny(path, batch_size=2)
    assert len(train) == 4
    x, y = test[0]
    assert {name: value.shape for name, value in x.items()} == {
        "vision": (2, 50, 371),
        "audio": (2, 50, 81),
        "text": (2, 50, 300),
    }
    assert np.isfinite(x["audio"]).all()
    # The second, not funny, has no text.
    np.testing.assert_array_equal(test.labels, [1, 1, 0])
    assert test.labels.dtype == y.dtype == "int32"


def test_labels_of_another_set_are_named(tmp_path):
    path = write(tmp_path / "humor.pkl", multibench(4, 5, 6, [-3, 2]))
    with pytest.raises(ValueError, match=r"humor\.pkl`.*from -1 to 1"):
        load_ur_funny(path)
