import numpy as np
import pytest

from keras_mimo.datasets.wordnet import WORDNET_CLASSES
from keras_mimo.datasets.wordnet import load_wordnet_nouns

LICENCE = "  1 This software and database is being provided to you\n"
LINES = (
    "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which exists  \n"
    "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n"
    ' 0000 | a member of the genus; "the dog barked"  \n'
    "15113229 28 n 0a time_period 0 period 0 x 0 x 0 x 0 x 0 x 0 x 0 x 0 end 0"
    " 000 | an amount of time  \n"
)


def test_words_glosses_and_labels(tmp_path):
    path = tmp_path / "data.noun"
    path.write_text(LICENCE + LINES)
    words, glosses, labels = load_wordnet_nouns(path)
    assert words[:2] == ["entity", "dog, domestic dog, Canis familiaris"]
    # The number of words is hexadecimal.
    assert words[2].startswith("time period, period, x, ")
    assert words[2].endswith(", end")
    assert glosses[0] == "that which exists"
    assert glosses[1] == 'a member of the genus; "the dog barked"'
    assert [WORDNET_CLASSES[label] for label in labels] == [
        "Tops",
        "animal",
        "time",
    ]
    assert labels.dtype == np.int32


@pytest.mark.parametrize(
    "line",
    ["no synset", "1 03 n 02 entity 0 | gloss", "1 40 n 01 entity 0 | gloss"],
)
def test_another_file_is_refused(tmp_path, line):
    path = tmp_path / "data.noun"
    path.write_text(LICENCE + line + "\n")
    with pytest.raises(ValueError, match=r"must be a file data\.noun"):
        load_wordnet_nouns(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        load_wordnet_nouns(tmp_path / "data.noun")
