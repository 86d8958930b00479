"""How the public API is used, for a type checker: `make types`. It never runs.

What is wrong on purpose has an `ignore` with the error's name. Where a checker
no longer sees that error, say since a name has become `Any`, the `ignore` is
one that nothing needs, and `make types` fails.
"""

import keras
import numpy as np

import keras_mimo
from keras_mimo import callbacks
from keras_mimo import combiners
from keras_mimo import datasets
from keras_mimo import diagnostics
from keras_mimo import losses
from keras_mimo import modulations
from keras_mimo import objectives


class OwnCombiner(keras_mimo.BalancedGradientCombiner):
    needs = "gramian"
    traits = frozenset({"nonnegative"})

    def call(self, losses, gramian=None, active=None, training=True):
        return keras.ops.ones_like(losses)


def modalities(encoders: dict, x: dict, y: np.ndarray) -> None:
    model = keras_mimo.intermediate_fusion(encoders, 7, missing=True)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner=keras_mimo.MIMOCombiner(penalty=1.0, smoothing=0.1),
        modulation=modulations.OGM(alpha=0.8, noise=True),
    )
    model.fit(x, y, epochs=1, callbacks=[callbacks.Backup("backup")])
    keras_mimo.calibrate_fusion(model, x, y)
    found = diagnostics.contributions(model, x, y)
    parts: dict = found.parts
    plain = keras_mimo.inference_model(model)
    plain.save(f"{len(parts)}.keras")
    model.export("served_model", outputs="all")


def tasks(inputs: object, outputs: dict) -> None:
    model = keras_mimo.BalancedModel(inputs, outputs)
    model.compile(
        "adam",
        "mse",
        objectives=objectives.Outputs(missing_label=float("nan")),
        combiner=combiners.EveryN(combiners.Smoothed(OwnCombiner()), n=8),
    )
    traits: frozenset[str] = OwnCombiner.traits
    version: str = keras_mimo.__version__
    model.summary(print_fn=lambda line: print(line, traits, version))


def rare_classes(model: keras_mimo.BalancedModel, y: np.ndarray) -> None:
    counts = datasets.class_counts(y)
    gbg: dict = keras_mimo.gbg(num_groups=4)
    model.compile("adam", losses.LogitAdjusted(counts), **gbg)


def mistakes() -> None:
    keras_mimo.late_fusion()  # type: ignore[call-arg]
    keras_mimo.gbg(groops=4)  # type: ignore[call-arg]
    keras_mimo.MIMO()  # type: ignore[attr-defined]
    combiners.UpgradCombiner()  # type: ignore[attr-defined]
    keras_mimo.__version__ + 1  # type: ignore[operator]
    OwnCombiner.traits.add("convex")  # type: ignore[attr-defined]
