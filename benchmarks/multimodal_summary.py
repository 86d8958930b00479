"""What `benchmarks/multimodal.py` has kept, as three tables.

    python benchmarks/multimodal.py --summary

A comparison is a set, a fusion and an optimizer, and means are of those that
share the last: a rate that is large for SGD may not be for Adam. It may have
been stopped: what is there of it counts, and only seeds that both methods have
are compared.
"""

import json

import numpy as np

from keras_mimo.compare.intervals import paired_interval

BASELINE = "sum"
SHOWN = ("joint", BASELINE, "MIMO", "sum, 3 times the rate")
# What is no letter in a name is "_" in the names of its files.
NAMES = {
    "sum_3_times_the_rate": "sum, 3 times the rate",
    "sum_a_third_of_the_rate": "sum, a third of the rate",
    "D_R": "D&R",
    "G_Blending": "G-Blending",
    "OGM_GE": "OGM-GE",
    "modality_dropout": "modality dropout",
}
SCORES = {
    "fused": lambda run: run["fused"]["accuracy"],
    "calibrated": lambda run: run["calibrated"]["accuracy"],
    "worst alone": lambda run: min(
        scores["accuracy"] for scores in run["alone"].values()
    ),
    "worst lost": lambda run: min(
        run["lost"][modality]["accuracy"] for modality in run["alone"]
    ),
}


def best_alone(run):
    return max(scores["accuracy"] for scores in run["alone"].values())


def summary(folder):
    """Prints the tables.

    Args:
        folder: Path, where runs are kept.
    """
    found = {
        place.name: records(place)
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    found = {name: runs for name, runs in found.items() if BASELINE in runs}
    for optimizer in sorted({_optimizer(name) for name in found}):
        print(f"{optimizer}:\n")
        print_means(
            {n: runs for n, runs in found.items() if _optimizer(n) == optimizer}
        )
    print_scores(found)
    print_differences(found)


def _optimizer(name):
    return name.rsplit("_", 1)[1]


def records(folder):
    """Dict from methods to dicts from seeds to what was kept of a run."""
    found, tried = {}, {}
    for path in sorted(folder.glob("*_seed_*.json")):
        name, rest = path.stem.split("_seed_")
        method, *options = name.split("_penalty_")
        method = NAMES.get(method, method)
        if options:
            runs = tried.setdefault(options[0], {})
        else:
            runs = found.setdefault(method, {})
        runs[int(rest.split("-")[0])] = json.loads(path.read_text())
    if tried:
        # As `compare()` chooses: by validation data, with the first seed.
        found["MIMO"] = max(
            (runs for runs in tried.values() if 0 in runs),
            key=lambda runs: (
                runs[0]["validation"]["accuracy"],
                -runs[0]["validation"]["log_loss"],
            ),
        )
    return found


def values(runs, seeds, score):
    """Array of a score of each seed, in %."""
    return np.array([100 * score(runs[seed]) for seed in seeds])


def gaps(runs, baseline, score):
    """Scores of a method and of the baseline, of the seeds that both have."""
    seeds = sorted(set(runs) & set(baseline))
    return values(runs, seeds, score), values(baseline, seeds, score)


def print_means(found):
    """Differences to the sum, over comparisons."""
    print("| method | " + " | ".join(SCORES) + " | comparisons, runs |")
    print("| :--- |" + " ---: |" * (len(SCORES) + 1))
    methods = {method for runs in found.values() for method in runs}
    for method in sorted(methods):
        pairs = [
            (runs[method], runs[BASELINE])
            for runs in found.values()
            if set(runs.get(method, {})) & set(runs[BASELINE])
        ]
        cells = []
        for score in SCORES.values():
            means = [
                np.mean(np.subtract(*gaps(*pair, score))) for pair in pairs
            ]
            cells.append(_mean_and_error(means))
        runs = sum(len(set(a) & set(b)) for a, b in pairs)
        cells.append(f"{len(pairs)}, {runs}")
        print(f"| {method} | " + " | ".join(cells) + " |")
    print(
        "\nPoints above the sum of the losses on test data: mean ± standard "
        f"error over at most {len(found)} comparisons, of equal seeds.\n"
    )


def _mean_and_error(means):
    if len(means) < 2:
        return f"{np.mean(means):+.1f}"
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    return f"{np.mean(means):+.1f} ± {error:.1f}"


def print_scores(found):
    """Means over seeds of what each comparison has reached."""
    print("| comparison | " + " | ".join(SHOWN) + " |")
    print("| :--- |" + " ---: |" * len(SHOWN))
    for name, runs in found.items():
        cells = [_cell(runs.get(method)) for method in SHOWN]
        print(f"| {name.replace('_', ', ')} | " + " | ".join(cells) + " |")
    print(
        "\nfused / calibrated, best alone / worst alone; means over the seeds "
        "that there are\n"
    )


def _cell(runs):
    if not runs:
        return "-"
    scores = [
        SCORES["fused"],
        SCORES["calibrated"],
        best_alone,
        SCORES["worst alone"],
    ]
    fused, calibrated, best, worst = (
        np.mean(values(runs, runs, score)) for score in scores
    )
    return f"{fused:.1f} / {calibrated:.1f}, {best:.1f} / {worst:.1f}"


def print_differences(found):
    """What the seeds of each comparison say of the differences."""
    columns = {
        f"{method}, {score}": (method, SCORES[score])
        for method in SHOWN
        if method != BASELINE
        for score in ("calibrated", "worst alone")
    }
    print("| comparison | " + " | ".join(columns) + " |")
    print("| :--- |" + " ---: |" * len(columns))
    for name, runs in found.items():
        cells = [
            _interval(runs.get(method, {}), runs[BASELINE], score)
            for method, score in columns.values()
        ]
        print(f"| {name.replace('_', ', ')} | " + " | ".join(cells) + " |")
    print(
        "\nPoints above the sum of the losses, of equal seeds, with the 95 % "
        "interval; * where it leaves out 0"
    )


def _interval(runs, baseline, score):
    pair = gaps(runs, baseline, score)
    if len(pair[0]) < 2:
        return "-"
    gain, half = paired_interval(*pair)
    return f"{gain:+.1f} ± {half:.1f}" + (" *" if abs(gain) > half else "")
