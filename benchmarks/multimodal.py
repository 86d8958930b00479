"""The field's methods side by side, on open data: what docs/benchmark.md shows.

    make bench-data
    KERAS_BACKEND=jax python benchmarks/multimodal.py --processes 2
    KERAS_BACKEND=jax python benchmarks/multimodal.py --quick

Sets and encoders are those of `benchmarks/multimodal_sets.py`, and AV-digits of
`examples/image_sound.py` (which needs espeak-ng), with small convolutions. Each
is trained with late fusion (the sum of logits) and with intermediate fusion
(one trunk); watch also by one network on both sensors, whose modalities are
masked. A part of the training data is held out, of watch two people: there
hyper-parameters are chosen, scales of `calibrate_fusion()` fitted, and methods
that look at validation data do so. Test data are scored, after the last epoch,
and nothing else.

Methods have their papers' values, but for MIMO: lambda of 1 and 10 and mu of .1
and 1 are tried with the first seed. What was made for an encoder each is left
out of the one network, and so is what drops features; AGM, which takes 62 more
forward passes for six modalities, is left out of mfeat. UME and MLA have a
fusion of their own, and come with late fusion. UMT's teachers are trained for
as many epochs as the model, and MLA, whose batches are one modality's each, for
as many times the epochs as there are modalities. SGD has momentum .9 and
the rate `RATE`; "sum, 3 times the rate" is what a method that takes longer
steps has to beat, and "sum, a third of the rate" what one that takes shorter
ones has to, under SGD.

Every run is kept in `--folder`, so that the same command goes on where it was
stopped. `--summary` trains nothing and prints what is there, also of
comparisons that were stopped (`multimodal_summary.py`).
"""

import argparse
import functools
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parent))

import keras
import numpy as np
from mimo_dial import early
from multimodal_sets import DATA
from multimodal_sets import SETS
from multimodal_sets import MultimodalSet
from multimodal_sets import av_digits_encoders
from multimodal_summary import summary
from quickstart import machine

import keras_mimo
from keras_mimo import callbacks
from keras_mimo import combiners
from keras_mimo import layers
from keras_mimo import modulations

BATCH = 64
RATE = 0.1
# The loudness of the babble, in dB, at which AV-digits are heard.
SNR = 0.0


def load_av_digits():
    import image_sound

    folder = DATA / "voices"
    image_sound.av_digits.speak(folder)
    voices = image_sound.av_digits.read_voices(folder)
    train, (inputs, y) = image_sound.load(
        voices, image_sound.read_pictures(DATA), seed=0
    )
    return train, (inputs[image_sound.NOISE.index(SNR)], y)


TASKS = {
    **SETS,
    "AV-digits": MultimodalSet(load_av_digits, av_digits_encoders, 10, 10),
}


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model_of(name, fusion, shapes, drop=None):
    """A new model of a set.

    Args:
        name: Key of `TASKS`.
        fusion: `"late"`, `"intermediate"` or `"early"`.
        shapes: Dict from modalities to the shapes of their arrays.
        drop: Class of a layer that drops features, or `None`.
    """
    task = TASKS[name]
    x = {modality: np.empty((1, *shape)) for modality, shape in shapes.items()}
    if fusion == "early":
        return early(task, x)
    options = {}
    if drop is not None:
        option = "fusion" if fusion == "late" else "trunk"
        options[option] = functools.partial(
            _fused, drop(), _trunk(fusion == "intermediate")
        )
    fuse = {
        "late": keras_mimo.late_fusion,
        "intermediate": keras_mimo.intermediate_fusion,
    }[fusion]
    return fuse(task.encoders(x), task.num_classes, **options)


def _trunk(hidden):
    """Of the features of all: as `intermediate_fusion()` has it."""
    trunk = [keras.layers.Concatenate()]
    if hidden:
        trunk.append(keras.layers.Dense(128, activation="relu"))
        trunk.append(keras.layers.Dropout(0.2))
    return trunk


def _fused(drop, trunk, features):
    x = list(drop(features).values())
    for layer in trunk:
        x = layer(x)
    return x


def with_prototypes(name, fusion, shapes):
    """The model with prototypes of PMR in the place of uni-modal heads."""
    plain = keras_mimo.inference_model(model_of(name, fusion, shapes))
    classes = TASKS[name].num_classes
    return keras_mimo.add_unimodal_heads(
        plain,
        {modality: f"{modality}_encoder" for modality in shapes},
        head=functools.partial(_prototypes, classes),
    )


def _prototypes(classes, modality):
    return layers.PrototypeClassifier(classes)


def with_teachers(name, fusion, shapes):
    """The model with teachers of UMT that are still to be trained."""
    return keras_mimo.add_unimodal_teachers(model_of(name, fusion, shapes))


def train_teachers(epochs, train):
    return [callbacks.TrainTeachers(train, epochs, batch_size=BATCH)]


def ensemble(name, shapes):
    """UME: a network of each modality, and the mean of what they say."""
    task = TASKS[name]
    x = {modality: np.empty((1, *shape)) for modality, shape in shapes.items()}
    models = {
        modality: keras.Sequential(
            [
                keras.Input(shapes[modality]),
                encoder,
                keras.layers.Dense(task.num_classes),
            ]
        )
        for modality, encoder in task.encoders(x).items()
    }
    return keras_mimo.unimodal_ensemble(models)


def alternating(name, shapes):
    """MLA: modalities that take turns in training one head."""
    task = TASKS[name]
    x = {modality: np.empty((1, *shape)) for modality, shape in shapes.items()}
    return keras_mimo.alternating_fusion(task.encoders(x), task.num_classes)


def with_own_fusion(name, shapes, epochs):
    """The methods that come with a model of their own."""
    alone = dict.fromkeys(shapes, 1.0)
    return [
        {
            "name": "UME",
            "build": functools.partial(ensemble, name, shapes),
            "combiner": combiners.ConstantCombiner(alone),
        },
        {
            "name": "MLA",
            "build": functools.partial(alternating, name, shapes),
            "epochs": epochs * len(shapes),
        },
    ]


def per_encoder(model):
    return {"blocks": model.encoder_variables}


def update_prototypes(train):
    return [callbacks.UpdatePrototypes(train)]


def relearning(train, validation):
    return [callbacks.Relearning(train, validation, every=5)]


def blending(train, validation):
    return [
        callbacks.GradientBlending(
            train, validation, epochs=5, mode="offline", batch_size=BATCH
        )
    ]


def methods_of(name, fusion, shapes, rate, epochs):
    """The methods of `compare()` for a model."""
    chosen = {"penalty": [1.0, 10.0], "smoothing": [0.1, 1.0]}
    methods = [
        "joint",
        "sum",
        {
            "name": "sum, 3 times the rate",
            "combiner": "sum",
            "learning_rate": 3 * rate,
        },
        {"name": "MIMO", "combiner": "mimo", **chosen},
        {"name": "MGDA", "combiner": "mgda"},
        {"name": "CAGrad", "combiner": "cagrad"},
        {"name": "UPGrad", "combiner": "upgrad"},
    ]
    if fusion == "early":
        return methods
    build = functools.partial(model_of, name, fusion, shapes)
    return [
        *methods,
        {
            "name": "MMPareto",
            "combiner": combiners.MMParetoCombiner,
            "compile": per_encoder,
        },
        {"name": "OGM-GE", "modulation": modulations.OGM, "noise": True},
        *([{"name": "AGM", "modulation": "agm"}] if len(shapes) < 4 else []),
        {"name": "MLB", "combiner": "sum", "modulation": "mlb"},
        {
            "name": "MSLR",
            "combiner": "sum",
            "modulation": "mslr",
            "validate": True,
        },
        {
            "name": "G-Blending",
            "combiner": "gblending",
            "callbacks": blending,
        },
        {"name": "D&R", "combiner": "sum", "callbacks": relearning},
        {
            "name": "PMR",
            "build": functools.partial(with_prototypes, name, fusion, shapes),
            "combiner": "sum",
            "loss": [
                {"fused": crossentropy()},
                keras_mimo.losses.PrototypeRebalancing(),
            ],
            "callbacks": update_prototypes,
        },
        {
            "name": "OPM",
            "build": functools.partial(build, layers.OnTheFlyDropout),
            "combiner": "sum",
        },
        {
            "name": "modality dropout",
            "build": functools.partial(build, layers.ModalityDropout),
            "combiner": "sum",
        },
        {
            "name": "UMT",
            "build": functools.partial(with_teachers, name, fusion, shapes),
            "callbacks": functools.partial(train_teachers, epochs),
        },
        *(with_own_fusion(name, shapes, epochs) if fusion == "late" else []),
    ]


def run(name, fusion, optimizer, options):
    """Compares the methods on a set, and prints the table."""
    task = TASKS[name]
    train, validation, test = task.three_parts(seed=0)
    shapes = {modality: x.shape[1:] for modality, x in train[0].items()}
    rate = 1e-3 if optimizer == "Adam" else RATE
    momentum = {} if optimizer == "Adam" else {"momentum": 0.9}
    maker = getattr(keras.optimizers, optimizer)
    epochs = options.epochs or task.epochs
    methods = methods_of(name, fusion, shapes, rate, epochs)
    if optimizer == "SGD":
        third = {"combiner": "sum", "learning_rate": rate / 3}
        methods.append({"name": "sum, a third of the rate", **third})
    if options.methods:
        names = [m if isinstance(m, str) else m["name"] for m in methods]
        pairs = zip(methods, names, strict=True)
        methods = [m for m, name in pairs if name in options.methods]
    result = keras_mimo.compare(
        functools.partial(model_of, name, fusion, shapes),
        train,
        test,
        validation,
        methods=methods,
        compile={
            "optimizer": maker(rate, **momentum),
            "loss": crossentropy(),
            "metrics": ["accuracy"],
        },
        fit={"epochs": epochs, "batch_size": BATCH},
        seeds=options.seeds,
        folder=options.folder / f"{name}_{fusion}_{optimizer}",
        processes=options.processes,
    )
    print(f"\n### {name}, {fusion} fusion, {optimizer}\n", flush=True)
    print(result.to_markdown(), flush=True)
    stem = f"{name}_{fusion}_{optimizer}"
    result.to_csv(options.folder / f"{stem}.csv")


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Methods of the field side by side, on open data."
    )
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS))
    fusions = ["late", "intermediate", "early"]
    parser.add_argument(
        "--fusions", nargs="+", choices=fusions, default=fusions
    )
    optimizers = ["Adam", "SGD"]
    parser.add_argument(
        "--optimizers", nargs="+", choices=optimizers, default=optimizers
    )
    parser.add_argument("--methods", nargs="+", help="names, if not all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="those of the set if none")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, default="multimodal_runs", help="of all runs"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two sets, three methods"
    )
    parser.add_argument(
        "--summary", action="store_true", help="of the runs that are kept"
    )
    options = parser.parse_args(arguments)
    if options.summary:
        return summary(options.folder)
    if options.quick:
        options.sets, options.fusions = ["HTAD", "mfeat"], ["intermediate"]
        options.optimizers, options.seeds = ["Adam"], 2
        options.methods = ["joint", "sum", "MIMO"]
    start = time.perf_counter()
    print(machine())
    for name in options.sets:
        for fusion in options.fusions:
            if fusion == "early" and name != "watch":
                continue
            for optimizer in options.optimizers:
                run(name, fusion, optimizer, options)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
