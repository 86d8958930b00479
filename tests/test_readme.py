"""The code of the README runs as it stands there."""

from pathlib import Path

import keras
import numpy as np

import keras_mimo
from tests.documents import given
from tests.documents import python_blocks

README = Path(__file__).parents[1] / "README.md"


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(README)
    assert len(blocks) == 4
    names = given()
    combiners = []
    for block in blocks:
        exec(block, names)
        combiners.append(type(names["model"].combiner))
    assert combiners[:2] == [keras_mimo.MIMOCombiner, keras_mimo.MGDACombiner]
    assert names["model"].calibration is not None
    combiner = names["InverseLossCombiner"]()
    weights = keras.ops.convert_to_numpy(combiner([0.5, 2.0]))
    np.testing.assert_allclose(weights, [2.0, 0.5], rtol=1e-5)
    assert (tmp_path / "served_model" / "saved_model.pb").exists()
