"""What combiners of gradients add to a step on PyTorch, beside TorchJD.

    export KERAS_BACKEND=torch
    python benchmarks/beside_torchjd.py
    python benchmarks/beside_torchjd.py --device cuda --quick

It needs `torchjd[full]`, and an idle machine. `make bench` runs it.

Both libraries are in one process and train the same architecture: the models
of `step_cost.py` in Keras, and the same in plain PyTorch. The first tables are
what a method adds to one's own plain step: ours to the Keras step of the train
function, TorchJD's to a loop of PyTorch (`zero_grad`, forward pass, `backward`,
Adam). TorchJD has two ways, `backward` and `mtl_backward`: the better counts.
The second tables are the memory that a step takes at its peak, beyond what is
there before it. The last is from a Gramian to the weights alone.

On a CPU it is process time on one core, as in `step_cost.py`, and the memory
is what PyTorch's profiler sees allocated. With `--device cuda` it is wall time
with the device synchronised, and the memory is that of PyTorch's allocator
there. All are timed in turn in every round; a ratio compares times of one
round. Reported are medians, and the quartiles of the ratios.
"""

import argparse
import gc
import importlib.metadata
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


if __name__ == "__main__":
    # Keras chooses its device, and a backend counts the cores, when imported.
    os.environ["KERAS_TORCH_DEVICE"] = "cuda" if "cuda" in sys.argv else "cpu"
    if "cuda" not in sys.argv and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras

if keras.backend.backend() != "torch":
    raise SystemExit(
        "beside_torchjd.py compares with TorchJD on PyTorch: set "
        f"KERAS_BACKEND=torch. Received: {keras.backend.backend()!r}"
    )

import numpy as np
import torch
from combiner_latency import METHODS as WEIGHTINGS
from combiner_latency import own_weighting
from combiner_latency import random_rows
from step_cost import BATCH_SIZE
from step_cost import MODELS
from step_cost import NUM_CLASSES
from step_cost import Column
from step_cost import machine
from step_cost import spread
from step_cost import training_loop
from torch import nn
from torchjd import aggregation
from torchjd import autojac

# TorchJD's aggregator for K objectives; our combiner is in WEIGHTINGS.
METHODS = {
    "UPGrad": lambda k: aggregation.UPGrad(),
    "MGDA": lambda k: aggregation.MGDA(),
    "CAGrad": lambda k: aggregation.CAGrad(c=0.4),
    "DualProj": lambda k: aggregation.DualProj(),
    "Nash-MTL": lambda k: aggregation.NashMTL(n_tasks=k),
    "AlignedMTL": lambda k: aggregation.AlignedMTL(),
    "ConFIG": lambda k: aggregation.ConFIG(),
    "IMTL-G": lambda k: aggregation.IMTLG(),
    "PCGrad": lambda k: aggregation.PCGrad(),
}


class Clock:
    """Seconds of this process, or of a device once it has finished."""

    def __init__(self, device):
        self._on_gpu = device == "cuda"

    def __call__(self):
        if not self._on_gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, run, count):
        """Seconds of one of `count` repeats that `run(count)` does."""
        # Caches and allocator still hold what another model left there.
        run(1)
        start = self()
        run(count)
        return (self() - start) / count


def torch_cnn():
    """The trunk of `step_cost.cnn`."""
    blocks, channels = [], 3
    for filters, strides in ((32, 1), (64, 2), (128, 2)):
        blocks += [
            nn.Conv2d(channels, filters, 3, strides, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
        ]
        channels = filters
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    trunk = [*blocks, *pool, nn.Linear(channels, 128), nn.ReLU()]
    return nn.Sequential(*trunk), (3, 32, 32), 128


def torch_mlp():
    """The trunk of `step_cost.mlp`."""
    blocks, width = [], 128
    for units in (512, 512, 256):
        blocks += [
            nn.Linear(width, units, bias=False),
            nn.BatchNorm1d(units),
            nn.ReLU(),
            nn.Dropout(0.2),
        ]
        width = units
    return nn.Sequential(*blocks), (128,), width


TORCH_MODELS = {"cnn": torch_cnn, "mlp": torch_mlp}


class TorchLoop:
    """Steps a model of plain PyTorch on one batch.

    Args:
        way: `None` for the plain step, or one of TorchJD's ways.
        aggregator: TorchJD's, or `None`.
    """

    def __init__(self, model_name, count, device, way=None, aggregator=None):
        self._trunk, shape, width = TORCH_MODELS[model_name]()
        self._heads = nn.ModuleList(
            nn.Linear(width, NUM_CLASSES) for _ in range(count)
        )
        model = nn.ModuleList([self._trunk, self._heads]).to(device).train()
        self._shared = list(self._trunk.parameters())
        self._all = list(model.parameters())
        # As in step_cost.py the weights stay.
        self._optimizer = torch.optim.Adam(self._all, lr=0.0)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(BATCH_SIZE, *shape))
        y = rng.integers(NUM_CLASSES, size=(count, BATCH_SIZE))
        self._x = torch.tensor(x, dtype=torch.float32, device=device)
        self._y = torch.tensor(y, device=device)
        self._way = way
        self._aggregator = aggregator

    def run(self, steps):
        for _ in range(steps):
            loss = self._step()
        loss.item()

    def _step(self):
        self._optimizer.zero_grad()
        features = self._trunk(self._x)
        losses = [
            nn.functional.cross_entropy(head(features), y)
            for head, y in zip(self._heads, self._y, strict=True)
        ]
        if self._way is None:
            sum(losses).backward()
        elif self._way == "backward":
            autojac.backward(losses)
            autojac.jac_to_grad(self._all, self._aggregator)
        else:
            autojac.mtl_backward(losses, features=features)
            autojac.jac_to_grad(self._shared, self._aggregator)
        self._optimizer.step()
        return losses[0]


WAYS = ("backward", "mtl_backward")


class Loops(NamedTuple):
    """The plain steps, and those of each method: ours and both of theirs."""

    own: Callable
    other: Callable
    methods: dict

    def __iter__(self):
        yield from (self.own, self.other)
        for loops in self.methods.values():
            yield from loops


def build(model_name, count, options):
    """Builds and warms up all that is timed for one model and K."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    names = [f"head_{index}" for index in range(count)]

    def own(method=None):
        column = method and Column(
            method,
            lambda: WEIGHTINGS[method][0](count),
            options={"vectorized_gradients": options.vectorized},
        )
        return training_loop(model_name, names, column).run

    def other(way=None, method=None):
        aggregator = method and METHODS[method](count)
        loop = TorchLoop(model_name, count, options.device, way, aggregator)
        return loop.run

    methods = {
        method: [own(method), *(other(way, method) for way in WAYS)]
        for method in options.methods
    }
    loops = Loops(own(), other(), methods)
    for run in loops:
        run(2)
    return loops


def time_steps(loops, options):
    """What the methods add to a plain step, in milliseconds."""
    clock = Clock(options.device)
    shortest = clock.seconds(loops.other, 2)
    steps = max(2, math.ceil(options.block_seconds / shortest / 4))
    times = 1000 * np.array(
        [
            [clock.seconds(run, steps) for run in loops]
            for _ in range(options.rounds)
        ]
    )
    plain = {"own": spread(times[:, 0]), "torchjd": spread(times[:, 1])}
    columns = iter(times[:, 2:].T)
    results = []
    for method in loops.methods:
        own = next(columns) - times[:, 0]
        others = {way: next(columns) - times[:, 1] for way in WAYS}
        way = min(WAYS, key=lambda way: np.median(others[way]))
        results.append(
            {
                "method": method,
                "torchjd_way": way,
                "own": spread(own),
                "torchjd": spread(others[way]),
                "ratio": spread(own / others[way]),
            }
        )
    return plain, results


def peak_bytes(run, device):
    """What a step has allocated at its peak, beyond what was there."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(1)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        profile_memory=True,
    ) as profile:
        run(1)
    # The profiler counts the release only of what it saw allocated.
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]"
    ]
    return int(max(np.cumsum([change for _, change in sorted(changes)])))


def measure_memory(loops, options):
    """Megabytes that a step takes at its peak."""

    def peak(run):
        return peak_bytes(run, options.device) / 1e6

    plain = {"own": peak(loops.own), "torchjd": peak(loops.other)}
    results = []
    for method, (own, *others) in loops.methods.items():
        peaks = {w: peak(run) for w, run in zip(WAYS, others, strict=True)}
        way = min(peaks, key=peaks.get)
        result = {"own": peak(own), "torchjd": peaks[way], "torchjd_way": way}
        results.append({"method": method, **result})
    return plain, results


def time_weights(method, count, options):
    """Microseconds from a Gramian to the weights."""
    clock = Clock(options.device)
    own = own_weighting(WEIGHTINGS[method][0](count), count)
    other = WEIGHTINGS[method][1](count)
    draws = [
        torch.tensor(random_rows(np.random.default_rng(seed), count))
        for seed in range(4)
    ]
    inputs = [
        (rows.float().to(options.device), gramian.float().to(options.device))
        for rows, gramian in ((rows, rows @ rows.T) for rows in draws)
    ]

    def run_own(repeats):
        for _ in range(repeats):
            for _, gramian in inputs:
                own(gramian)

    def run_other(repeats):
        for _ in range(repeats):
            for rows, gramian in inputs:
                other(rows, gramian)

    runs = []
    for run in (run_own, run_other):
        run(1)
        block = options.block_seconds / 4
        runs.append((run, math.ceil(block / clock.seconds(run, 1))))
    times = np.array(
        [[clock.seconds(*run) for run in runs] for _ in range(options.rounds)]
    )
    times *= 1e6 / len(inputs)
    return {
        "method": method,
        "own": spread(times[:, 0]),
        "torchjd": spread(times[:, 1]),
        "ratio": spread(times[:, 0] / times[:, 1]),
    }


def cell(result, digits):
    """Ratio, its quartiles, and both numbers."""
    ratio = result["ratio"]
    quartiles = (
        f"{ratio['lower_quartile']:.2f} to {ratio['upper_quartile']:.2f}"
    )
    numbers = [result[key]["median"] for key in ("own", "torchjd")]
    pair = " : ".join(f"{number:.{digits}f}" for number in numbers)
    return f"{ratio['median']:.2f} ({quartiles}; {pair})"


def table(title, counts, lines):
    print(f"\n### {title}\n")
    titles = ["", *(f"K = {count}" for count in counts)]
    for cells in (titles, ["---"] * len(titles), *lines):
        print("| " + " | ".join(cells) + " |")
    print(end="", flush=True)


def report_steps(model_name, options, report):
    steps, memory = [], []
    for count in options.objectives:
        loops = build(model_name, count, options)
        head = {"model": model_name, "objectives": count}
        if "steps" in options.parts:
            plain, results = time_steps(loops, options)
            steps.append((plain, results))
            report["steps"].append({**head, "plain": plain, "methods": results})
        if "memory" in options.parts:
            plain, results = measure_memory(loops, options)
            memory.append((plain, results))
            report["memory"].append(
                {**head, "plain": plain, "methods": results}
            )
        del loops
        gc.collect()
    if steps:
        pairs = [
            " : ".join(f"{plain[key]['median']:.1f}" for key in plain)
            for plain, _ in steps
        ]
        lines = [
            [method, *(cell(results[row], 1) for _, results in steps)]
            for row, method in enumerate(options.methods)
        ]
        title = f"{model_name}: milliseconds that a method adds to a step"
        table(title, options.objectives, [["plain step", *pairs], *lines])
    if memory:
        columns = [
            [f"{p['own']:.1f} : {p['torchjd']:.1f}" for p in (plain, *results)]
            for plain, results in memory
        ]
        names = ["plain step", *options.methods]
        lines = [[n, *c] for n, *c in zip(names, *columns, strict=True)]
        title = f"{model_name}: megabytes that a step takes at its peak"
        table(title, options.objectives, lines)


def report_weights(options, report):
    counts = [4, 16] if options.quick else [4, 8, 16, 32]
    lines = []
    for method in options.methods:
        results = [time_weights(method, count, options) for count in counts]
        lines.append([method, *(cell(result, 0) for result in results)])
        for count, result in zip(counts, results, strict=True):
            report["weights"].append({"objectives": count, **result})
    table("microseconds from a Gramian to the weights", counts, lines)


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description="Cost of combiners of gradients beside TorchJD's."
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn"])
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument(
        "--objectives", nargs="+", type=int, help="default: 2 4 8 16"
    )
    parser.add_argument("--rounds", type=int, help="default: 10")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=["steps", "memory", "weights"],
        default=["steps", "memory", "weights"],
    )
    parser.add_argument(
        "--quick", action="store_true", help="K = 2 and 8, 3 short rounds"
    )
    parser.add_argument(
        "--vectorized",
        action="store_true",
        help="our gradients in one pass, as TorchJD's: vectorized_gradients",
    )
    parser.add_argument("--output", type=Path, help="also write a JSON file")
    options = parser.parse_args(arguments)
    options.objectives = options.objectives or (
        [2, 8] if options.quick else [2, 4, 8, 16]
    )
    options.rounds = options.rounds or (3 if options.quick else 10)
    options.block_seconds = 0.02 if options.quick else 0.1
    return options


def main(options):
    options.methods = options.methods or list(METHODS)
    for argument, known in (("models", MODELS), ("methods", METHODS)):
        unknown = set(getattr(options, argument)) - set(known)
        if unknown:
            raise SystemExit(
                f"--{argument} must be of {list(known)}. "
                f"Received: {sorted(unknown)}"
            )
    # Of how Nash-MTL is written down there.
    warnings.filterwarnings("ignore", module="torchjd|cvxpy")
    report = {
        "machine": {
            **machine(),
            "torchjd": importlib.metadata.version("torchjd"),
            "device": torch.cuda.get_device_name()
            if options.device == "cuda"
            else "cpu",
        },
        **{part: [] for part in options.parts},
    }
    print(" · ".join(str(value) for value in report["machine"].values()))
    print(
        "Ratio, ours to TorchJD's (its quartiles; ours : TorchJD's), medians "
        f"of {options.rounds} rounds."
    )
    if {"steps", "memory"} & set(options.parts):
        for model_name in options.models:
            report_steps(model_name, options, report)
    if "weights" in options.parts:
        report_weights(options, report)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(parse())
