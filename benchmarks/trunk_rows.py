"""A trunk on one large batch, or on a small one for each modality?

    KERAS_BACKEND=jax python benchmarks/trunk_rows.py

`intermediate_fusion()` computes the outputs of its M modalities in one call of
the trunk, on M times as many rows. Here a step of that is timed beside one of
the same model with a call for each: the medians of alternating steps, for
encoders of 64 features, and the default trunk and one of two wide layers.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from keras import layers
from quickstart import machine

import keras_mimo

CLASSES = 10
WIDTHS = {"128": [128], "512, 512": [512, 512]}


def encoders(count):
    return {
        f"m{m}": keras.Sequential(
            [keras.Input((64,)), layers.Dense(64, activation="relu")]
        )
        for m in range(count)
    }


def trunk(widths):
    return keras.Sequential(
        [
            *[layers.Dense(width, activation="relu") for width in widths],
            layers.Dropout(0.2),
        ]
    )


def one_batch(count, widths):
    return keras_mimo.intermediate_fusion(
        encoders(count), CLASSES, trunk=trunk(widths)
    )


def call_each(count, widths):
    parts = encoders(count)
    inputs = {m: keras.Input((64,), name=m) for m in parts}
    features = {m: encoder(inputs[m]) for m, encoder in parts.items()}
    absent = {
        m: keras_mimo.layers.AbsentFeatures()(x) for m, x in features.items()
    }
    shared, head = trunk(widths), layers.Dense(CLASSES)

    def logits(kept):
        rows = [features[m] if m in kept else absent[m] for m in features]
        return head(shared(layers.Concatenate()(rows)))

    outputs = {"fused": logits(list(features))}
    outputs.update({m: logits([m]) for m in features})
    return keras_mimo.MultimodalModel(inputs, outputs)


def compiled(build, count, widths):
    keras.utils.set_random_seed(0)
    model = build(count, widths)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner="sum",
    )
    return model


def medians(count, widths, batch, steps):
    """Milliseconds of a step, of one batch and of a call for each."""
    rng = np.random.default_rng(0)
    x = {
        f"m{m}": rng.normal(size=(batch, 64)).astype("float32")
        for m in range(count)
    }
    y = rng.integers(0, CLASSES, batch)
    models = [compiled(b, count, widths) for b in (one_batch, call_each)]
    times = [[], []]
    for step in range(steps + 3):
        for model, kept in zip(models, times, strict=True):
            start = time.perf_counter()
            model.train_on_batch(x, y)
            if step >= 3:
                kept.append(time.perf_counter() - start)
    return [1000 * np.median(kept) for kept in times]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modalities", type=int, nargs="+", default=[2, 3, 6])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args(arguments)
    print(f"{machine()}\nms a step, {options.batch} samples\n")
    print("| trunk | modalities | one batch | a call for each | ratio |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for title, widths in WIDTHS.items():
        for count in options.modalities:
            one, each = medians(count, widths, options.batch, options.steps)
            cells = (title, count, f"{one:.1f}", f"{each:.1f}")
            ratio = f"{one / each:.2f}"
            print("| " + " | ".join(map(str, (*cells, ratio))) + " |")


if __name__ == "__main__":
    main()
