"""The bytes that are calculated are those that PyTorch is given to send."""

import math
from pathlib import Path

import keras
import pytest

import keras_mimo
from benchmarks import communication
from keras_mimo import combiners
from tests.distribution import cases

DOCS = Path(__file__).parents[2] / "docs"


def described(model, objectives):
    sizes = [math.prod(v.shape) for v in model.trainable_weights]
    return communication.Model(
        parameters=sum(sizes),
        objectives=objectives,
        balanced=sizes[0],
    )


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="PyTorch's messages are counted"
)
@pytest.mark.parametrize(
    "name, options, formula",
    [
        ("losses", {"combiner": combiners.STCHCombiner}, communication.losses),
        (
            "gramian",
            {"combiner": keras_mimo.MGDACombiner},
            communication.gramian,
        ),
        (
            "part",
            {
                "combiner": keras_mimo.MGDACombiner,
                "balanced_variables": [0],
            },
            communication.part,
        ),
        (
            "layer",
            {
                "combiner": keras_mimo.MGDACombiner,
                "gradients_at": "shared",
            },
            communication.at_layer,
        ),
        (
            "periodic",
            {"combiner": lambda: combiners.EveryN(combiners.UPGradCombiner())},
            communication.periodic,
        ),
    ],
)
def test_bytes_per_step(name, options, formula, monkeypatch):
    import torch

    from keras_mimo.gradients import torch as engine

    sizes = []
    monkeypatch.setattr(engine, "_processes", lambda: 2)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda *_: None)
    monkeypatch.setattr(
        torch.distributed,
        "all_reduce",
        lambda tensor: sizes.append(tensor.numel() * tensor.element_size()),
    )
    # Losses of one output: every objective reaches every variable.
    case = cases.case(
        build=cases.classifier,
        data=cases.classes,
        loss=lambda: [cases.crossentropy(), "sparse_categorical_crossentropy"],
        **options,
    )
    model = cases.model_of(case)
    x, y = cases.classes()
    for _ in range(8):
        model.train_on_batch(x, y)
    expected = formula(described(model, 2))
    # PyTorch also says which variables have a gradient.
    flags = communication.FLOAT * len(model.trainable_weights)
    assert sum(sizes) / 8 == expected.bytes + flags
    assert len(sizes) / 8 == expected.messages


def test_cost_by_calculation():
    traffic = communication.Traffic(bytes=8e6, messages=3)
    assert communication.sent(traffic, 8) == 14e6
    seconds = communication.seconds(traffic, 8, bandwidth=1e9, latency=1e-3)
    assert seconds == pytest.approx(14e-3 + 3 * 6 * 1e-3)


def test_the_page_shows_what_the_script_prints(capsys):
    communication.main([])
    printed = capsys.readouterr().out.strip()
    assert printed in (DOCS / "scaling.md").read_text()
