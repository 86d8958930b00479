"""What balancing costs by itself: a step, less the plain one.

    KERAS_BACKEND=jax python benchmarks/subroutine_time.py
    KERAS_BACKEND=torch python benchmarks/subroutine_time.py --nets resnet18

The paper of MIMO says that its subroutine takes up to 20 times less than those
of MGDA and MMPareto. Here each method trains the same late-fusion model of M
modalities, on one batch, beside the plain Keras step on the sum of the losses
of the same outputs; OGM-GE is on top of the sum, as the others are. All take
turns in every round. What a method adds is the median, over the rounds, of its
step less the plain step of that round; below it are the quartiles.

MGDA, MMPareto and Nash-MTL are solved per encoder, as that paper has them. On a
GPU a step of Keras waits for the device where it reads the logs, once a round.
"""

import argparse
import importlib
import os
import platform
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers
from step_cost import TrainingLoop

import keras_mimo
from keras_mimo import combiners
from keras_mimo import models
from keras_mimo import modulations

BACKEND = keras.backend.backend()


class Net(NamedTuple):
    """An architecture.

    Args:
        encoder: Function of the index of a modality that returns an encoder.
        batch_size: Integer.
        most: Integer, the largest number of modalities.
    """

    encoder: Callable
    batch_size: int
    most: int


def mlp(index):
    return keras.Sequential(
        [
            keras.Input((128,)),
            layers.Dense(256, activation="relu"),
            layers.Dense(128, activation="relu"),
        ]
    )


def cnn(index):
    return keras.Sequential(
        [
            keras.Input((128, 3)),
            layers.Conv1D(32, 9, strides=2, activation="relu"),
            layers.Conv1D(64, 9, strides=2, activation="relu"),
            layers.GlobalAveragePooling1D(),
        ]
    )


def resnet18(index):
    """A picture, or a spectrogram as of CREMA-D."""
    if index % 2:
        return models.ResNet18((257, 188), channels=1)
    return models.ResNet18((224, 224))


NETS = {
    "mlp": Net(mlp, 64, 6),
    "cnn": Net(cnn, 64, 6),
    "resnet18": Net(resnet18, 16, 2),
}


def per_encoder(combiner):
    return lambda model: {
        "combiner": combiner(),
        "blocks": model.encoder_variables,
    }


METHODS = {
    "MIMO": lambda model: {"combiner": keras_mimo.MIMOCombiner()},
    "MGDA": per_encoder(keras_mimo.MGDACombiner),
    "MMPareto": per_encoder(combiners.MMParetoCombiner),
    "Nash-MTL": per_encoder(combiners.NashMTLCombiner),
    "OGM-GE": lambda model: {
        "combiner": "sum",
        "modulation": modulations.OGM(alpha=0.5, noise=True),
    },
    "AGM": lambda model: {"combiner": "sum", "modulation": modulations.AGM()},
}


class Loop(TrainingLoop):
    """That of `step_cost.py`, by the clock on the wall, for GPUs too."""

    def seconds(self, steps):
        """Seconds per step, once the device has finished them."""
        self.run(1)
        start = time.perf_counter()
        self.run(steps)
        return (time.perf_counter() - start) / steps


def loop(net, count, method=None):
    keras.utils.set_random_seed(0)
    names = [f"modality_{index}" for index in range(count)]
    model = keras_mimo.late_fusion(
        {name: net.encoder(index) for index, name in enumerate(names)},
        num_classes=6,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {}
    if method is None:
        model = keras.Model(model.input, model.output)
    else:
        options = METHODS[method](model)
    # The weights stay: no method converges to where it has less to do.
    model.compile(
        keras.optimizers.SGD(0.0, momentum=0.9),
        dict.fromkeys(model.output, loss) if method is None else loss,
        **options,
    )
    random = np.random.default_rng(0)
    batch = net.batch_size
    x = {
        name: keras.ops.convert_to_tensor(
            random.normal(size=(batch, *tensor.shape[1:])), "float32"
        )
        for name, tensor in zip(names, model.inputs, strict=True)
    }
    y = keras.ops.convert_to_tensor(random.integers(6, size=batch))
    labels = dict.fromkeys(model.output, y) if method is None else y
    return Loop(model, x, labels)


def measure(net, count, methods, rounds, seconds):
    """Milliseconds of the plain step, and what each method adds, per round."""
    keras.utils.clear_session()
    loops = [loop(net, count), *(loop(net, count, m) for m in methods)]
    steps = max(1, round(seconds / loops[0].seconds(2)))
    times = np.array(
        [[each.seconds(steps) for each in loops] for _ in range(rounds)]
    )
    return 1000 * times[:, 0], 1000 * (times[:, 1:] - times[:, :1]).T


def row(name, count, plain, added):
    cells = [f"{name}, {count}", f"{np.median(plain):.2f}"]
    for values in added:
        low, middle, high = np.percentile(values, (25, 50, 75))
        cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    return "| " + " | ".join(cells) + " |"


def machine():
    device = platform.processor() or platform.machine()
    if BACKEND == "torch":
        import torch

        if torch.cuda.is_available():
            device = torch.cuda.get_device_name()
    if BACKEND == "jax":
        import jax

        device = jax.devices()[0].device_kind
    version = importlib.import_module(BACKEND).__version__
    return f"{device}, {os.cpu_count()} cores, {BACKEND} {version}"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Time that balancing adds to the plain Keras step."
    )
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--modalities", nargs="+", type=int, default=[2, 4, 6])
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS)
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--batch-size", type=int, help="that of the net if none"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="of each method in a round"
    )
    options = parser.parse_args(arguments)
    print(f"{machine()}, keras {keras.__version__}\n")
    titles = ["net, M", "plain ms", *(f"{m} adds" for m in options.methods)]
    print("| " + " | ".join(titles) + " |")
    print("| :--- |" + " ---: |" * (len(titles) - 1))
    for name in options.nets:
        net = NETS[name]
        if options.batch_size:
            net = net._replace(batch_size=options.batch_size)
        for count in options.modalities:
            if count <= net.most:
                figures = measure(
                    net, count, options.methods, options.rounds, options.seconds
                )
                print(row(name, count, *figures), flush=True)


if __name__ == "__main__":
    main()
