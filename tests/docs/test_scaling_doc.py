"""The code of docs/scaling.md runs, here on one device."""

from pathlib import Path

import keras
import numpy as np

import keras_mimo
from tests.documents import python_blocks

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def make_model():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(3)(inputs)
    heads = {name: keras.layers.Dense(1)(shared) for name in ("fused", "one")}
    return OneLabel(inputs, heads)


class OneLabel(keras_mimo.BalancedModel):
    """Every output is scored against the same label."""

    def default_objectives(self):
        return keras_mimo.objectives.Modalities()


def test_the_page(monkeypatch):
    code = dict(
        zip(("tensorflow", "jax", "torch"), python_blocks(PAGE), strict=True)
    )
    x = np.ones((8, 4), "float32")
    names = dict(
        keras=keras,
        keras_mimo=keras_mimo,
        make_model=make_model,
        x=x,
        y=x[:, :1],
        global_batch_size=4,
    )
    backend = keras.backend.backend()
    environment = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    for name, value in dict(environment, RANK="0", WORLD_SIZE="1").items():
        monkeypatch.setenv(name, value)
    if backend == "tensorflow":
        import tensorflow as tf

        names["tf"] = tf
    if backend == "torch":
        import torch

        names["torch"] = torch
    try:
        exec(code[backend], names)
    finally:
        if backend == "jax":
            keras.distribution.set_distribution(None)
        if backend == "torch":
            torch.distributed.destroy_process_group()
    weight = keras.ops.convert_to_numpy(names["model"].weights[0])
    assert np.all(np.isfinite(weight))
