"""Emoji by picture and by keywords: image, text and a long tail, on real data.

An emoji has a picture and some keywords, and belongs to one of 89 classes, of
which the largest has fifty times as many emoji as the smallest. One model,
`intermediate_fusion`, is trained in ways that differ in the arguments of
`compile()`:

- joint: on the loss of the fused output alone, as plain Keras would;
- sum: on the losses of the fused output and of each modality alone;
- MIMO: on the fused loss and a smooth maximum of those of the modalities;
- each of these with logit adjustment, the loss to beat on long tails;
- MIMO over pairs: the smooth maximum is over the losses of each modality on
  each of three groups of classes (head, medium and tail);
- with `--gbg` also GBG over pairs: a step that is downhill for all of those,
  and for the fused output on each group, on the losses of logit adjustment. It
  takes nine backward passes a step.

Each is shown calibrated too, on emoji that were held out from training. The
score is balanced accuracy, the mean of the recalls of all classes, so that the
tail counts. Nothing is selected by it: encoders, epochs and optimizer are
those of `benchmarks/multimodal_sets.py`, the rest are defaults, and where head
and tail begin was set by the counts.

    pip install keras-mimo[examples,images,calibration]
    make bench-data
    python examples/image_text.py

with KERAS_BACKEND set to tensorflow, jax or torch.

Your own data: let `load()` return training and test part, each a dict of
arrays by modality and an array of class ids, and let `encoders()` return a
network for each, which ends in a feature vector. `keras_mimo.models` has larger
ones: `ResNet18` for photographs, `text_encoder` for sentences. A modality that
a sample lacks is NaN (see `missing` of `intermediate_fusion`). `MANY` and `FEW`
are the numbers of training samples above and below which a class is head or
tail. `draw()` is about emoji: leave it out, or name and show samples of yours.
"""

import argparse
import os
import textwrap
import time
from pathlib import Path

# On a model this small more threads gain nothing. Read when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import matplotlib
import numpy as np
from keras import layers
from keras import ops
from quickstart import machine
from quickstart import mean_and_spread
from quickstart import serve

import keras_mimo
from keras_mimo.datasets import load_emoji
from keras_mimo.datasets import load_emoji_index
from keras_mimo.datasets.stratified import split_off
from keras_mimo.losses import LogitAdjusted
from keras_mimo.metrics import BalancedAccuracy
from keras_mimo.metrics import ShotAccuracy

# Draws into files, so that no display is needed.
matplotlib.use("Agg")
import matplotlib.offsetbox
import matplotlib.pyplot as plt

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
MODALITIES = {"image": "picture", "keywords": "keywords"}
# About a third of the classes each.
MANY, FEW = 12, 6
SPLITS = {"many": "head", "medium": "medium", "few": "tail"}


def load(folder):
    """Training and test part, each a dict of inputs and the class ids."""
    return load_emoji(folder)


def hold_out(train, test, seed):
    """Splits a fifth off the training part, to calibrate on.

    Words of none but held-out emoji must be as unknown as those of test emoji
    are, or keywords would look better there.
    """
    rest, held_out = split_off(*train, 0.2, seed)
    known = rest[0]["keywords"].any(axis=0)
    parts = []
    for x, y in (rest, held_out, test):
        words = x["keywords"][:, known]
        lengths = np.linalg.norm(words, axis=1, keepdims=True)
        words = words / np.where(lengths > 0, lengths, 1)
        parts.append(({**x, "keywords": words}, y))
    return parts


def encoders(x):
    """A network for each modality, which ends in a feature vector."""
    return {
        "image": keras.Sequential(
            [
                keras.Input(x["image"].shape[1:]),
                layers.Conv2D(32, 3, strides=2, activation="relu"),
                layers.Conv2D(64, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(64, activation="relu"),
            ]
        ),
        "keywords": keras.Sequential(
            [
                keras.Input(x["keywords"].shape[1:]),
                layers.Dense(64, activation="relu"),
            ]
        ),
    }


class PairMIMO(keras_mimo.BalancedGradientCombiner):
    """MIMO where the worst is sought among pairs of modality and group."""

    needs = "losses"
    smoothing = 0.1

    def call(self, losses, gramian=None, active=None, training=True):
        fused = [name.startswith("fused") for name in self.objective_names]
        fused = ops.convert_to_tensor(np.array(fused))
        others = active & ~fused
        # Groups without a sample in the batch have no part.
        shares = ops.softmax(ops.where(others, losses / self.smoothing, -1e9))
        fused = ops.cast(fused & active, losses.dtype)
        mean = fused / ops.maximum(ops.sum(fused), 1.0)
        return mean + ops.where(others, shares, 0.0)


def pairs(groups):
    objectives = keras_mimo.ClassGroups(groups, within=keras_mimo.Modalities())
    return {"objectives": objectives, "combiner": PairMIMO()}


def gbg_pairs(groups):
    return keras_mimo.gbg(groups=groups, within=keras_mimo.Modalities())


# By name: whether the loss knows the class counts, and further arguments of
# `compile()`, from the groups of classes.
METHODS = {
    "joint": (False, lambda groups: {}),
    "joint, logit adjustment": (True, lambda groups: {}),
    "sum": (False, lambda groups: {"combiner": "sum"}),
    "sum, logit adjustment": (True, lambda groups: {"combiner": "sum"}),
    "MIMO": (False, lambda groups: {"combiner": "mimo"}),
    "MIMO, logit adjustment": (True, lambda groups: {"combiner": "mimo"}),
    "MIMO over pairs": (False, pairs),
    "GBG over pairs, logit adjustment": (True, gbg_pairs),
}
SLOWEST = "GBG over pairs, logit adjustment"
# What is served and drawn, calibrated.
SHOWN = "MIMO"


def train(method, seed, epochs, train_set, counts):
    """The part to copy: a Keras model with more arguments to compile."""
    adjusted, arguments = METHODS[method]
    groups = {
        name: ShotAccuracy(counts, split, MANY, FEW).classes
        for split, name in SPLITS.items()
    }
    if adjusted:
        loss = LogitAdjusted(counts)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(seed)
    model = keras_mimo.intermediate_fusion(
        encoders(train_set[0]), num_classes=len(counts), missing=True
    )
    model.compile(keras.optimizers.Adam(1e-3), loss, **arguments(groups))
    model.fit(*train_set, batch_size=64, epochs=epochs, verbose=0)
    return model


def calibrate(model, method, held_out, counts):
    x, y = held_out
    # The logits of an adjusted loss are those of classes of equal size.
    weights = 1 / counts[y] if METHODS[method][0] else None
    keras_mimo.calibrate_fusion(model, x, y, weights, verbose=0)


def without(x, modality):
    """The model is told: it puts a learnt vector in the modality's place."""
    return {**x, modality: np.full_like(x[modality], np.nan)}


def blank(x, modality):
    """The model is not told: it sees a white picture, or no known keyword."""
    value = 1 if modality == "image" else 0
    return {**x, modality: np.full_like(x[modality], value)}


def score(model, test_set, counts):
    """The scores of a row of the tables, in %, by column."""
    x, y = test_set
    balanced = BalancedAccuracy(len(counts))

    def predict(x):
        return model.predict(x, batch_size=256, verbose=0)

    def percent(metric, logits):
        metric.reset_state()
        metric.update_state(y, logits)
        return 100 * float(metric.result())

    outputs = predict(x)
    scores = {"fused": percent(balanced, outputs["fused"])}
    for split, name in SPLITS.items():
        metric = ShotAccuracy(counts, split, MANY, FEW)
        scores[name] = percent(metric, outputs["fused"])
    for modality, name in MODALITIES.items():
        scores[f"{name} alone"] = percent(balanced, outputs[modality])
    for modality, name in MODALITIES.items():
        lost = predict(without(x, modality))["fused"]
        scores[f"{name} lost"] = percent(balanced, lost)
    for modality, name in MODALITIES.items():
        lost = predict(blank(x, modality))["fused"]
        scores[f"{name} blank"] = percent(balanced, lost)
    return scores


def main():
    parser = argparse.ArgumentParser(
        description="Trains on pictures and keywords, jointly and balanced."
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs a method")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--gbg", action="store_true", help=f"also {SLOWEST}")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of both packages"
    )
    parser.add_argument("--output", type=Path, default="image_text_output")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.epochs) < 1:
        parser.error("--seeds and --epochs must be at least 1")
    arguments.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    train_set, test_set = load(arguments.data)
    num_classes = 1 + int(train_set[1].max())
    methods = [name for name in METHODS if arguments.gbg or name != SLOWEST]
    rows = {}
    for seed in range(arguments.seeds):
        parts = hold_out(train_set, test_set, seed)
        counts = np.bincount(parts[0][1], minlength=num_classes)
        if not seed:
            print(describe(parts, counts))
        for method in methods:
            model = train(method, seed, arguments.epochs, parts[0], counts)
            scores = {method: score(model, parts[2], counts)}
            calibrate(model, method, parts[1], counts)
            name = f"{method}, calibrated"
            scores[name] = score(model, parts[2], counts)
            if method == SHOWN:
                shown = model, parts[2]
            for name, row in scores.items():
                rows.setdefault(name, []).append(row)
                print(f"seed {seed}, {name}: {row['fused']:.1f} %", flush=True)

    print_tables(rows)
    print(f"{machine()}; {time.perf_counter() - start:.0f} s in all.\n")
    model, (x, y) = shown
    print("No test emoji has a picture here:")
    serve(model, without(x, "image"), y, arguments.output)
    picture = arguments.output / "image_text.png"
    draw(model.predict(x, batch_size=256, verbose=0), arguments.data, picture)
    print(f"\nWhat each modality knows: {picture}")


# From here on nothing trains: what is left prints and draws.


def describe(parts, counts):
    numbers = [len(y) for _, y in parts]
    sizes = [
        f"{len(ShotAccuracy(counts, split, MANY, FEW).classes)} {name}"
        for split, name in SPLITS.items()
    ]
    return (
        "{} emoji to train on, {} held out to calibrate, {} to test.\n".format(
            *numbers
        )
        + f"{len(counts)} classes of {counts.max()} to {counts.min()} in "
        f"training: {', '.join(sizes)}."
    )


def print_tables(rows):
    columns = list(next(iter(rows.values()))[0])
    for chosen in (columns[:4], columns[4:]):
        print("\n| balanced accuracy in % | " + " | ".join(chosen) + " |")
        print("| :--- |" + " ---: |" * len(chosen))
        for name, runs in rows.items():
            cells = [mean_and_spread([r[c] for r in runs]) for c in chosen]
            print(f"| {name} | " + " | ".join(cells) + " |")
    caption = (
        f"Head: classes of more than {MANY} emoji in training; tail: of less "
        f"than {FEW}. Lost: the model is told, and puts a learnt vector in the "
        "modality's place. Blank: it is not told, and sees a white picture, or "
        "no known keyword."
    )
    print("\n" + textwrap.fill(caption, 88))


def draw(outputs, folder, path, columns=3, lines=3):
    """Emoji that one modality gets right and the other does not."""
    index = load_emoji_index(folder)
    _, (x, y) = load_emoji(folder, size=64)
    answers = {name: z.argmax(-1) for name, z in outputs.items()}
    right = {name: answer == y for name, answer in answers.items()}
    image, keywords, fused = (right[n] for n in ("image", "keywords", "fused"))
    panels = {
        "Only the picture is right": (image & ~keywords, "image"),
        "Only the keywords are right": (keywords & ~image, "keywords"),
        "Neither alone, but both together": (
            fused & ~image & ~keywords,
            "fused",
        ),
    }
    plt.rcParams.update({"font.size": 10})
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(11, 10.5), layout="constrained"
    )
    for axis, (title, (chosen, output)) in zip(
        axes, panels.items(), strict=True
    ):
        axis.set(xlim=(0, columns), ylim=(lines, 0))
        axis.axis("off")
        axis.set_title(
            f"{title}: {chosen.sum()} of {len(y)}",
            loc="left",
            weight="bold",
            fontsize=14,
        )
        places = surest(chosen, outputs[output], y)[: columns * lines]
        for cell, place in enumerate(places):
            corner = cell % columns, cell // columns
            tile(axis, corner, x["image"][place])
            emoji = index.test[place]
            words = ", ".join(emoji.keywords) or "no keywords"
            axis.text(
                corner[0] + 0.25,
                corner[1] + 0.2,
                index.classes[emoji.label],
                weight="bold",
            )
            axis.text(
                corner[0] + 0.25,
                corner[1] + 0.43,
                textwrap.shorten(words, 34, placeholder=" ..."),
                color="#666666",
            )
            wrong = [
                f"{MODALITIES[name]}: {index.classes[answers[name][place]]}"
                for name in MODALITIES
                if not right[name][place]
            ]
            axis.text(
                corner[0] + 0.25,
                corner[1] + 0.52,
                "\n".join(wrong),
                color="#D55E00",
                verticalalignment="top",
            )
    figure.supxlabel(
        f"{SHOWN}, calibrated, on emoji not seen in training. Bold: the class; "
        "grey: the keywords; orange: the wrong answers.\n"
        "At most one of each class, the surest answers first.",
        fontsize=10.5,
        color="#444444",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def surest(chosen, logits, y):
    """The places of one sample a class, by the probability of its class."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    sure = (shifted / shifted.sum(-1, keepdims=True))[np.arange(len(y)), y]
    first = {}
    for place in np.argsort(-sure, kind="stable"):
        if chosen[place]:
            first.setdefault(y[place], place)
    return list(first.values())


def tile(axis, corner, pixels):
    """A picture at the left of a cell, in its own shape."""
    box = matplotlib.offsetbox.OffsetImage(pixels, zoom=0.75)
    axis.add_artist(
        matplotlib.offsetbox.AnnotationBbox(
            box, (corner[0] + 0.12, corner[1] + 0.42), frameon=False
        )
    )


if __name__ == "__main__":
    main()
