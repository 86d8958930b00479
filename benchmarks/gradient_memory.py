"""Peak memory and time of a step whose gradients come part by part.

    KERAS_BACKEND=torch python benchmarks/gradient_memory.py
    KERAS_BACKEND=torch python benchmarks/gradient_memory.py --device cuda

ResNet-50 (24 million variables, 95 MB a gradient) with K heads and UPGrad. Each
way runs in a process of its own: plain Keras, `gradient_parts` of 1, 2, 4 and
8, and `vectorized_gradients`. On PyTorch TorchJD too, by `autojac` and by
`autogram`, beside a plain loop on the same network. After a first step, in
which backends compile, a few are timed; the time is the shortest of them, on
one core.

Memory is what steps take at their peak beyond what is there before them: on a
CPU of the resident set (of Linux), on a GPU of the backend's allocator. The
graph that JAX compiles is no part of it. TensorFlow keeps what it has freed, so
that on a CPU the whole process counts there.
"""

import argparse
import ctypes
import os
import re
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

WAYS = {
    "plain": None,
    "1 part": {},
    "2 parts": {"gradient_parts": 2},
    "4 parts": {"gradient_parts": 4},
    "8 parts": {"gradient_parts": 8},
    "vectorised": {"vectorized_gradients": True},
    "vectorised, 4 parts": {
        "vectorized_gradients": True,
        "gradient_parts": 4,
    },
}
# TorchJD's ways to train, and what its steps are compared with.
THEIRS = {
    "plain PyTorch": None,
    "TorchJD, autojac": "backward",
    "TorchJD, autogram": "autogram",
}


class PeakMemory:
    """What is taken since it was made, at its peak, in bytes."""

    def __init__(self, device):
        self._device = device
        self._backend = os.environ["KERAS_BACKEND"]
        if device == "cpu":
            # What was compiled with, and is free again, is no part of a step.
            ctypes.CDLL(None).malloc_trim(0)
            # Linux begins to count anew.
            Path("/proc/self/clear_refs").write_text("5")
            # TensorFlow keeps what it has freed: the whole process counts.
            keeps = self._backend == "tensorflow"
            self._before = 0 if keeps else self._resident("VmRSS")
        elif self._backend == "torch":
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._before = self._of_jax("bytes_in_use")

    def read(self):
        if self._device == "cpu":
            return self._resident("VmHWM") - self._before
        if self._backend == "torch":
            import torch

            return torch.cuda.max_memory_allocated() - self._before
        return self._of_jax("peak_bytes_in_use") - self._before

    def _resident(self, name):
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", status)[1])

    def _of_jax(self, name):
        import jax

        return jax.devices()[0].memory_stats()[name]


def own_step(options):
    """One training step of Keras, as a function."""
    import keras
    import numpy as np

    import keras_mimo

    keras.utils.set_random_seed(0)
    shape = (options.size, options.size, 3)
    if keras.backend.backend() == "torch":
        # As PyTorch itself has it: other convolutions would be transposed.
        keras.config.set_image_data_format("channels_first")
        shape = (3, options.size, options.size)
    names = [str(k) for k in range(options.objectives)]
    network = getattr(keras.applications, options.backbone)
    backbone = network(
        include_top=False, weights=None, input_shape=shape, pooling="avg"
    )
    inputs = keras.Input(shape)
    features = backbone(inputs)
    outputs = {n: keras.layers.Dense(10, name=n)(features) for n in names}
    loss = dict.fromkeys(
        names, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    arguments = WAYS[options.way]
    if arguments is None:
        model = keras.Model(inputs, outputs)
        model.compile("sgd", loss)
    else:
        model = keras_mimo.BalancedModel(inputs, outputs)
        model.compile("sgd", loss, combiner="upgrad", **arguments)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.batch, *shape)).astype("float32")
    y = {n: rng.integers(10, size=options.batch) for n in names}
    # Its logs are numbers: it waits for the step.
    return lambda: model.train_on_batch(x, y)


def train(options):
    """Trains one way, and prints its peak bytes and its seconds of a step."""
    if options.device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.way in THEIRS:
        from torch_resnet50 import Trainer

        step = Trainer(THEIRS[options.way], options).step
    else:
        step = own_step(options)
    step()
    peak = PeakMemory(options.device)
    seconds = []
    for _ in range(options.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print("measured", peak.read(), min(seconds))


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Peak memory and time of a step, part by part."
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--objectives", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=64, help="of the pictures")
    parser.add_argument("--steps", type=int, default=3)
    every = [*WAYS, *THEIRS]
    parser.add_argument("--ways", nargs="+", choices=every, default=every)
    parser.add_argument("--way", choices=every, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(way, options):
    command = [sys.executable, __file__, "--way", way]
    for name in ("device", "backbone", "objectives", "batch", "size", "steps"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = dict(os.environ, KERAS_TORCH_DEVICE=options.device)
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True
    )
    found = re.search(r"^measured (\d+) (\S+)$", run.stdout, re.M)
    if not found:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        return None, last
    return int(found[1]), float(found[2])


def main(options):
    from step_cost import machine

    print(" · ".join(str(value) for value in machine().values()))
    print(
        f"{options.objectives} objectives, batches of {options.batch}, "
        f"{options.size} x {options.size}, {options.device}\n"
    )
    print("| way | MB of a step | s a step | times plain |")
    print("| --- | ---: | ---: | ---: |")
    report(WAYS, options)
    if (
        os.environ["KERAS_BACKEND"] == "torch"
        and options.backbone == "ResNet50"
    ):
        report(THEIRS, options)


def report(ways, options):
    """Prints a line for each of the ways, of which the first is plain."""
    name, *others = [
        w for w in ways if w == next(iter(ways)) or w in options.ways
    ]
    plain = None
    for way in [name, *others]:
        peak, seconds = measure(way, options)
        if peak is None:
            print(f"| {way} | failed: {seconds} | | |")
            continue
        plain = plain or seconds
        ratio = seconds / plain
        print(
            f"| {way} | {peak / 1e6:.0f} | {seconds:.3f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    options = parse()
    if options.way:
        train(options)
    else:
        main(options)
