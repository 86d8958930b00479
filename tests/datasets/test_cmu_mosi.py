import numpy as np
import pytest

from keras_mimo.datasets import load_cmu_mosi
from tests.datasets.affect_files import mmsa
from tests.datasets.affect_files import multibench
from tests.datasets.affect_files import write


def test_features_of_mmsa(tmp_path):
    data = mmsa()
    path = write(tmp_path / "aligned_50.pkl", data)
    train, validation, test = load_cmu_mosi(path, labels="regression")
    assert [len(part.labels) for part in (train, validation, test)] == [9, 3, 4]
    x, y = test[0]
    assert {k: (v.shape, str(v.dtype)) for k, v in x.items()} == {
        "vision": ((4, 30, 20), "float32"),
        "audio": ((4, 25, 5), "float32"),
        "text": ((4, 50, 768), "float32"),
    }
    np.testing.assert_array_equal(x["text"], data["test"]["text"])
    assert x["audio"][0, 0, 0] == 0 and np.isfinite(x["audio"]).all()
    np.testing.assert_array_equal(y, np.array([-3, 0, 2.4, -3], "float32"))


@pytest.mark.parametrize(("cut", "positive"), [(">0", 1), (">=0", 2)])
def test_the_cut_of_two_classes(tmp_path, cut, positive):
    path = write(tmp_path / "aligned_50.pkl", mmsa())
    _, validation, _ = load_cmu_mosi(path, cut=cut)
    assert validation.labels.sum() == positive


def test_the_form_of_multibench(tmp_path):
    data = multibench(20, 5, 300, [-1, 2])
    path = write(tmp_path / "mosi_raw.pkl", data)
    _, _, test = load_cmu_mosi(path)
    x, y = test[0]
    assert x["audio"].shape == (3, 50, 5)
    np.testing.assert_array_equal(y, [0, 0, 1])


def test_ids_without_their_masks_are_named(tmp_path):
    data = mmsa()
    data["valid"]["text_bert"] = data["valid"]["text_bert"][:, :1]
    path = write(tmp_path / "aligned_50.pkl", data)
    with pytest.raises(ValueError, match=r'"valid".*\(3, 3, steps\)'):
        load_cmu_mosi(path, text="ids")


def test_sentences_that_do_not_fit_are_named(tmp_path):
    data = mmsa()
    data["test"]["raw_text"].pop()
    path = write(tmp_path / "aligned_50.pkl", data)
    with pytest.raises(ValueError, match=r'"test".*4 strings'):
        load_cmu_mosi(path, tokenize=lambda sentence: [1])
