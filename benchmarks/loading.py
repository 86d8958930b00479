"""How many samples a second the loaders of the benchmarks give.

    KERAS_BACKEND=torch python benchmarks/loading.py
    KERAS_BACKEND=jax python benchmarks/loading.py --loaders crema_d --processes

Files of noise, of the sizes of the real ones, are written to a temporary folder
and read with 0, 2 and 4 workers, by `predict()` of a model that only averages:
without a cache, while the cache is written, and from it. A pass is timed with
the start of its workers. The operating system holds the files in memory: of a
disk nothing is measured.

Beside it stands how many a training step takes a second, with MIMO and the same
batch size: of three convolutions for each picture and sound, or of `--encoder
resnet18`, as in the papers, and of a Transformer of words. A loader that gives
more does not hold it up.
"""

import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import keras
import numpy as np
from keras import layers
from PIL import Image
from quickstart import machine
from scipy.io import wavfile

import keras_mimo
from keras_mimo import datasets
from keras_mimo import models

HELD_OUT = 2
STEPS = 3


def write_sound(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(size=int(16000 * seconds))
    wavfile.write(path, 16000, (3000 * samples).astype("int16"))


def write_frames(folder, count, size):
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        write_picture(folder / f"frame_{number:05d}.jpg", size)


def write_picture(path, size):
    # Noise that is scaled up has as large files as photographs.
    picture = Image.effect_noise((size[0] // 4, size[1] // 4), 80)
    picture = picture.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    picture.save(path, quality=90)


def write_list(path, line, count):
    path.write_text("".join(line.format(i) + "\n" for i in range(count)))


def write_crema_d(folder, count):
    for list_file, part, number in (
        ("train.csv", "a", count),
        ("test.csv", "b", HELD_OUT),
    ):
        write_list(folder / list_file, part + "{},NEU", number)
        for i in range(number):
            write_sound(folder / f"AudioWAV/{part}{i}.wav", 2.5)
            write_frames(folder / f"Image-01-FPS/{part}{i}", 3, (480, 360))


def write_kinetics_sounds(folder, count):
    for part, frames, number in (
        ("train", "train-frames-1fps", count),
        ("test", "val-frames-1fps", HELD_OUT),
    ):
        write_list(folder / f"my_{part}.txt", "{},10,0", number)
        for i in range(number):
            write_sound(folder / f"{part}_wav/{part}/{i}.wav", 10)
            write_frames(folder / f"{frames}/{part}/{i}", 10, (340, 256))


def write_ave(folder, count):
    for part, number in (("train", count), ("val", 2), ("test", 2)):
        line = f"Bark&{part}{{}}&good&0&10"
        write_list(folder / f"{part}Set.txt", line, number)
        for i in range(number):
            write_sound(folder / f"audio/{part}{i}.wav", 10)
            write_frames(folder / f"visual/{part}{i}", 10, (640, 360))


def write_vggsound(folder, count):
    lines = []
    for part, number in (("train", count), ("test", HELD_OUT)):
        images = f"{part}-videos/{part}-set-img/Image-01-FPS"
        for i in range(number):
            lines.append(f"{part}{i},1,barking,{part}\n")
            name = f"{part}{i}_1"
            write_sound(folder / f"{part}-audios/{part}-set/{name}.wav", 10)
            write_frames(folder / images / f"{name}.mp4", 10, (640, 360))
    (folder / "vggsound.csv").write_text("".join(lines))


def write_av_mnist(folder, count):
    """All rows, most of them holes in the files."""
    for part, rows in (("train", 60000), ("test", 10000)):
        for name, shape in (("image", (784,)), ("audio", (112, 112))):
            path = folder / name / f"{part}_data.npy"
            path.parent.mkdir(exist_ok=True)
            array = np.lib.format.open_memmap(path, "w+", "u1", (rows, *shape))
            array[:count] = 1
        np.save(folder / f"{part}_labels.npy", np.zeros(rows, "uint8"))


def write_mm_imdb(folder, count):
    """The raw folder: covers of the usual size, plots of a hundred words."""
    split = {"train": count, "dev": HELD_OUT, "test": HELD_OUT}
    plot = " ".join(["plot"] * 100)
    (folder / "dataset").mkdir()
    for part, number in split.items():
        split[part] = [f"{part}{i}" for i in range(number)]
        for film in split[part]:
            text = json.dumps({"genres": ["Drama"], "plot": [plot]})
            (folder / f"dataset/{film}.json").write_text(text)
            write_picture(folder / f"dataset/{film}.jpeg", (256, 380))
    (folder / "split.json").write_text(json.dumps(split))


def write_cmu_mosei(folder, count):
    """MultiBench's pickle, which is held in memory."""
    random = np.random.default_rng(0)
    data = {}
    for part, number in (("train", count), ("valid", 2), ("test", 2)):
        data[part] = {
            key: random.normal(size=(number, 50, width)).astype("float32")
            for key, width in (("vision", 35), ("audio", 74), ("text", 300))
        }
        data[part]["labels"] = np.ones((number, 1, 1), "float32")
        data[part]["id"] = np.array([[str(i)] for i in range(number)], object)
    (folder / "mosei_senti_data.pkl").write_bytes(pickle.dumps(data))


LOADERS = {
    "crema_d": write_crema_d,
    "kinetics_sounds": write_kinetics_sounds,
    "ave": write_ave,
    "vggsound": write_vggsound,
    "av_mnist": write_av_mnist,
    "mm_imdb": write_mm_imdb,
    "cmu_mosei": write_cmu_mosei,
}
# They decode nothing.
UNCACHED = ("av_mnist", "cmu_mosei")


def load(name, folder, count, **options):
    """The first samples of the training part."""
    path, given = folder, dict(options)
    if name == "mm_imdb":
        given["tokenize"] = lambda plot: [1] * len(plot.split())
    if name == "cmu_mosei":
        (path,) = folder.glob("*.pkl")
    train, *_ = getattr(datasets, f"load_{name}")(path, **given)
    # Without the share that was split off.
    labels = train.labels[:count]
    options.pop("cache", None)
    return datasets.Samples(train.read, labels, **options)


def passing(x):
    """A model that reads all of its input, and does no more."""
    inputs = {key: keras.Input(a.shape[1:], name=key) for key, a in x.items()}
    means = [
        layers.Reshape((1,))(
            keras.ops.mean(a, axis=tuple(range(1, len(a.shape))))
        )
        for a in inputs.values()
    ]
    return keras.Model(inputs, layers.Add()(means))


def rate(model, samples):
    """Samples a second."""
    start = time.perf_counter()
    model.predict(samples, verbose=0)
    return len(samples.labels) / (time.perf_counter() - start)


def small(shape):
    """An encoder of three convolutions, of each frame if there are several."""
    if len(shape) < 3:
        return words(shape)
    video = len(shape) == 4
    encoder = keras.Sequential([keras.Input(shape)])
    for filters in (32, 64, 128):
        if video:
            encoder.add(layers.Conv3D(filters, (1, 3, 3), (1, 2, 2)))
        else:
            encoder.add(layers.Conv2D(filters, 3, 2))
        encoder.add(layers.ReLU())
    pool = "GlobalAveragePooling3D" if video else "GlobalAveragePooling2D"
    encoder.add(getattr(layers, pool)())
    return encoder


def words(shape):
    """An encoder of ids, or of a vector for each word."""
    if len(shape) == 1:
        return models.text_encoder(8000, *shape)
    return models.Transformer(shape)


def resnet18(shape):
    """The encoder of the papers."""
    if len(shape) < 3:
        return words(shape)
    encoder = models.ResNet18(shape[-3:])
    return models.frames(encoder, shape[0]) if len(shape) == 4 else encoder


ENCODERS = {"small": small, "resnet18": resnet18}


def training_rate(x, y, encoder):
    """Samples a second of a training step on one batch."""
    encoders = {key: encoder(array.shape[1:]) for key, array in x.items()}
    multilabel = y.ndim == 2
    model = keras_mimo.late_fusion(encoders, y.shape[1] if multilabel else 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if multilabel:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, combiner="mimo")
    model.train_on_batch(x, y)
    start = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(x, y)
    return STEPS * len(y) / (time.perf_counter() - start)


def rows(name, folder, args):
    """Cells of the table."""
    count, options = args.samples, {"batch_size": args.batch_size}
    x, y = load(name, folder, count, **options)[0]
    model = passing(x)
    model.predict(x, verbose=0)
    step = training_rate(x, y, ENCODERS[args.encoder])

    def rates(cache):
        for number in args.workers:
            given = {
                **options,
                "workers": number,
                "use_multiprocessing": args.processes and number > 0,
            }
            if name not in UNCACHED:
                given["cache"] = cache and folder / cache.format(number)
            yield rate(model, load(name, folder, count, **given))

    passes = {"none": None}
    if name not in UNCACHED:
        # One for each number of workers, the second time found as it is.
        passes.update({"written": "cache{}", "read": "cache{}"})
    for title, cache in passes.items():
        yield [name, title, *(f"{r:.0f}" for r in rates(cache)), f"{step:.0f}"]


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--loaders", nargs="+", choices=LOADERS, default=list(LOADERS)
    )
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2, 4])
    parser.add_argument("--samples", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--encoder", choices=ENCODERS, default="small")
    parser.add_argument(
        "--processes", action="store_true", help="workers are processes"
    )
    args = parser.parse_args(arguments)
    print(f"samples a second; {machine()}\n")
    titles = [f"{number} workers" for number in args.workers]
    print("| " + " | ".join(["loader", "cache", *titles, "training"]) + " |")
    print("|" + " --- |" * (3 + len(titles)))
    for name in args.loaders:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            # A tenth and more are split off.
            LOADERS[name](folder, args.samples * 8 // 7)
            for cells in rows(name, folder, args):
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
