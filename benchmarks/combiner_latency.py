"""What the weights of a combiner cost, beside those of TorchJD.

Run it once per backend, on an idle machine:

    KERAS_BACKEND=jax python benchmarks/combiner_latency.py
    KERAS_BACKEND=torch python benchmarks/combiner_latency.py --methods MGDA

It needs `torchjd[full]`. It times one call from a Gramian in float32 to the
weights: ours compiled by JAX or TensorFlow, or eager on PyTorch; TorchJD's
weighting in the same process on PyTorch, always eager. Nash-MTL and ConFIG have
no weighting of a Gramian there and get the rows, twice as many columns as rows.

The random Gramians are those of normal rows. The opposing ones are of two
bundles of rows, each almost the other's negative: where the solvers iterate
most. Every time is for all seeds in turn.

As in `step_cost.py` it is CPU time on one core. Both are timed in turn in every
round. A ratio compares two times of one round; reported are medians.
"""

import argparse
import importlib.metadata
import json
import math
import os
import time
import warnings
from itertools import zip_longest
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__" and hasattr(os, "sched_setaffinity"):
    # Before a backend is imported and counts the cores.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import keras
import numpy as np
import torch
from step_cost import BACKEND
from step_cost import machine
from step_cost import spread
from torchjd import aggregation

from keras_mimo import combiners

# Long enough for the clock, short enough to interleave.
BLOCK_SECONDS = 0.02


def of_rows(weighting):
    return lambda rows, gramian: weighting(rows)


def of_gramian(weighting):
    return lambda rows, gramian: weighting(gramian)


# Our combiner, and TorchJD's function of rows and Gramian, for K objectives.
METHODS = {
    "Mean": (
        lambda k: combiners.MeanCombiner(),
        lambda k: of_rows(aggregation.MeanWeighting()),
    ),
    "MGDA": (
        lambda k: combiners.MGDACombiner(),
        lambda k: of_gramian(aggregation.MGDAWeighting()),
    ),
    "DualProj": (
        lambda k: combiners.DualProjCombiner(),
        lambda k: of_gramian(aggregation.DualProjWeighting()),
    ),
    "UPGrad": (
        lambda k: combiners.UPGradCombiner(),
        lambda k: of_gramian(aggregation.UPGradWeighting()),
    ),
    "CAGrad": (
        lambda k: combiners.CAGradCombiner(c=0.4, rescale=None),
        lambda k: of_gramian(aggregation.CAGradWeighting(c=0.4)),
    ),
    "Nash-MTL": (
        lambda k: combiners.NashMTLCombiner(),
        lambda k: of_rows(aggregation.NashMTL(n_tasks=k).weighting),
    ),
    "FairGrad": (
        lambda k: combiners.FairGradCombiner(alpha=2.0),
        lambda k: of_gramian(aggregation.FairGradWeighting(alpha=2.0)),
    ),
    "IMTL-G": (
        lambda k: combiners.IMTLGCombiner(),
        lambda k: of_gramian(aggregation.IMTLGWeighting()),
    ),
    "AlignedMTL": (
        lambda k: combiners.AlignedMTLCombiner(),
        lambda k: of_gramian(aggregation.AlignedMTLWeighting()),
    ),
    "ConFIG": (
        lambda k: combiners.ConFIGCombiner(),
        lambda k: of_rows(aggregation.ConFIG()),
    ),
    "PCGrad": (
        lambda k: combiners.PCGradCombiner(seed=0),
        lambda k: of_gramian(aggregation.PCGradWeighting()),
    ),
    "GradVac": (
        lambda k: combiners.GradVacCombiner(seed=0),
        lambda k: of_gramian(aggregation.GradVacWeighting()),
    ),
    "Krum": (
        lambda k: combiners.KrumCombiner(byzantine=1),
        lambda k: of_gramian(aggregation.KrumWeighting(n_byzantine=1)),
    ),
}
# Krum compares each gradient with others near it.
SMALLEST = {"Krum": 4}


def random_rows(rng, count):
    return rng.normal(size=(count, 2 * count))


def opposing_rows(rng, count):
    sides = np.where(np.arange(count) % 2, 1.0, -1.0)[:, None]
    noise = 0.01 * rng.normal(size=(count, 2 * count))
    return sides * rng.normal(size=2 * count) + noise


PROBLEMS = {"random": random_rows, "opposing": opposing_rows}


def own_weighting(combiner, count):
    """Function from a Gramian to weights that returns when they are there."""
    combiner.build([f"objective_{k}" for k in range(count)])
    losses = keras.ops.ones(count)

    def weigh(gramian):
        # State is read and not kept.
        with keras.StatelessScope():
            return combiner(losses, gramian)

    if BACKEND == "jax":
        import jax

        compiled = jax.jit(weigh)
        return lambda gramian: jax.block_until_ready(compiled(gramian))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(weigh)
        return lambda gramian: compiled(gramian).numpy()
    return weigh


def seconds(function, repeats):
    """Seconds per repeat."""
    # Caches and allocator still hold what the other library left there.
    function()
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


def measure(method, problem, count, seeds, rounds, own):
    """Times one method on one kind of problem.

    Args:
        own: Our weighting; compiled, so that the kinds share it.

    Returns:
        Dict of results, as it is written to the JSON file.
    """
    other = METHODS[method][1](count)
    draws = [
        PROBLEMS[problem](np.random.default_rng(seed), count) for seed in seeds
    ]
    # Rounded once, as an accurate sum would be.
    gramians = [(rows @ rows.T).astype("float32") for rows in draws]
    own_inputs = [keras.ops.convert_to_tensor(g) for g in gramians]
    other_inputs = [
        (torch.tensor(rows, dtype=torch.float32), torch.tensor(gramian))
        for rows, gramian in zip(draws, gramians, strict=True)
    ]

    def run_own():
        for gramian in own_inputs:
            own(gramian)

    def run_other():
        for rows, gramian in other_inputs:
            other(rows, gramian)

    runs = []
    for run in (run_own, run_other):
        # The first call compiles.
        run()
        runs.append((run, math.ceil(BLOCK_SECONDS / seconds(run, 1))))
    times = np.array([[seconds(*run) for run in runs] for _ in range(rounds)])
    times *= 1e6 / len(seeds)
    return {
        "method": method,
        "problem": problem,
        "objectives": count,
        "rounds": rounds,
        "seeds": list(seeds),
        "own_microseconds": spread(times[:, 0]),
        "torchjd_microseconds": spread(times[:, 1]),
        "ratio": spread(times[:, 0] / times[:, 1]),
    }


def measure_all(method, count, options):
    """A result for each kind of problem, none where K is too small."""
    if count < SMALLEST.get(method, 2):
        return []
    own = own_weighting(METHODS[method][0](count), count)
    return [
        measure(method, problem, count, options.seeds, options.rounds, own)
        for problem in options.problems
    ]


def row(cells):
    return "| " + " | ".join(cells) + " |"


def cell(result):
    own = result["own_microseconds"]["median"]
    other = result["torchjd_microseconds"]["median"]
    return f"{result['ratio']['median']:.2f} ({own:.0f} : {other:.0f})"


def parse(arguments):
    parser = argparse.ArgumentParser(
        description="Time of our combiners' weights beside TorchJD's."
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=METHODS
    )
    parser.add_argument(
        "--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS
    )
    parser.add_argument(
        "--objectives", nargs="+", type=int, default=[2, 4, 8, 16, 32]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="also write a JSON file")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    # Of how Nash-MTL is written down there.
    warnings.filterwarnings("ignore", module="torchjd|cvxpy")
    report = {
        "machine": {
            **machine(),
            "torchjd": importlib.metadata.version("torchjd"),
            "torch": torch.__version__,
        },
        "results": [],
    }
    print(" · ".join(str(value) for value in report["machine"].values()))
    print(
        "Ratio of our time to TorchJD's (ours : TorchJD's, in microseconds of "
        f"CPU time), median of {options.rounds} rounds over the problems of "
        f"seeds {options.seeds}."
    )
    titles = ["method", "rows", *(f"K = {k}" for k in options.objectives)]
    print("", row(titles), row(["---"] * len(titles)), sep="\n")
    for method in options.methods:
        lines = [[method, problem] for problem in options.problems]
        for count in options.objectives:
            results = measure_all(method, count, options)
            report["results"] += results
            for line, result in zip_longest(lines, results):
                line.append(cell(result) if result else "")
        print(*map(row, lines), sep="\n", flush=True)
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
