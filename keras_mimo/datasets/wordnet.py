from pathlib import Path

import numpy as np

_DEBIAN = Path("/usr/share/wordnet/data.noun")

WORDNET_CLASSES = (
    "Tops",
    "act",
    "animal",
    "artifact",
    "attribute",
    "body",
    "cognition",
    "communication",
    "event",
    "feeling",
    "food",
    "group",
    "location",
    "motive",
    "object",
    "person",
    "phenomenon",
    "plant",
    "possession",
    "process",
    "quantity",
    "relation",
    "shape",
    "state",
    "substance",
    "time",
)
"""The lexicographer files 03 to 28 of WordNet: lexnames(5WN)."""


def load_wordnet_nouns(path=None):
    """Loads the nouns of WordNet, a data set whose tail is natural.

    82,115 meanings of nouns, of 26 kinds: 11,587 artifacts and 42 motives. What
    is known of each are its words and its gloss, two views of it. There is no
    split into training and test data.

    The file is that of the Debian package `wordnet-base`
    (`apt-get install wordnet-base`).

    **License**: WordNet 3.0 license, Copyright 2006 Princeton University.

    Args:
        path: The file `data.noun`. Defaults to `None`: that of the Debian
            package.

    Returns:
        Tuple `(words, glosses, labels)`: two lists of strings, and class ids,
        an `int32` array. `keras_mimo.datasets.WORDNET_CLASSES` names them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not in WordNet's format.
    """
    path = Path(path or _DEBIAN)
    if not path.is_file():
        raise FileNotFoundError(
            "WordNet's file data.noun was not found. Install the Debian "
            f"package wordnet-base, or pass `path`. Received: path={path}"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    # The licence at the top is indented.
    parsed = [_parse(line, path) for line in lines if line[:1] != " "]
    words, glosses, labels = zip(*parsed, strict=True)
    return list(words), list(glosses), np.array(labels, "int32")


def _parse(line, path):
    head, separator, gloss = line.partition(" | ")
    fields = head.split(" ")
    try:
        label = int(fields[1]) - 3
        count = int(fields[3], 16)
        words = [fields[4 + 2 * k].replace("_", " ") for k in range(count)]
    except (IndexError, ValueError):
        separator = ""
    if not separator or not 0 <= label < len(WORDNET_CLASSES):
        raise ValueError(
            "`path` must be a file data.noun of WordNet. "
            f"Received: path={path}, with the line {line[:80]!r}"
        )
    return ", ".join(words), gloss.strip(), label
