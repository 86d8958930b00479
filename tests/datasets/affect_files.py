"""Small pickles in the forms of MultiBench and MMSA."""

import pickle

import numpy as np

COUNTS = {"train": 9, "valid": 3, "test": 4}
WORDS = ("I", "really", "liked", "it")


def multibench(vision, audio, text, sentiments, length=50):
    """Left-padded, with the defects of the real file.

    Args:
        vision, audio, text: Numbers of features.
        sentiments: Labels that are repeated.
        length: Number of steps.
    """
    random = np.random.default_rng(0)
    data = {}
    for name, count in COUNTS.items():
        part = {}
        for key, width in (("vision", vision), ("audio", audio)):
            part[key] = random.normal(size=(count, length, width))
            part[key] = part[key].astype("float32")
        # GloVe in double precision.
        part["text"] = random.normal(size=(count, length, text))
        for row in range(count):
            for key in ("vision", "audio", "text"):
                part[key][row, : length // 2 - row] = 0
        part["audio"][0, -1, 3] = -np.inf
        # No face was found.
        part["vision"][2] = 0
        # No word of the sentence is known.
        part["text"][1] = 0
        part["labels"] = np.resize(sentiments, (count, 1, 1)).astype("float32")
        part["id"] = np.array([[f"clip{k}"] for k in range(count)], object)
        data[name] = part
    return data


def mmsa():
    """Unaligned, with BERT's ids and the sentences."""
    random = np.random.default_rng(0)
    data = {}
    for name, count in COUNTS.items():
        ids = np.zeros((count, 3, 50), "float32")
        ids[:, 0, :4] = [101, 7592, 2088, 102]
        ids[:, 1, :4] = 1
        part = {
            "raw_text": [" ".join(WORDS[: 1 + k % 4]) for k in range(count)],
            "text": random.normal(size=(count, 50, 768)).astype("float32"),
            "text_bert": ids,
            "audio": random.normal(size=(count, 25, 5)),
            "vision": random.normal(size=(count, 30, 20)),
            "id": [f"video$_${k}" for k in range(count)],
            "regression_labels": np.resize([-3, 0, 2.4], count),
            "classification_labels": np.resize([0.0, 1, 2], count),
            "annotations": ["Positive"] * count,
            "audio_lengths": [25] * count,
            "vision_lengths": [30] * count,
        }
        part["audio"][0, 0, 0] = -np.inf
        data[name] = part
    return data


def write(path, data, protocol=4):
    path.write_bytes(pickle.dumps(data, protocol))
    return path
