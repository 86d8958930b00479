import csv
import dataclasses
import itertools
import math
import shutil
import textwrap

import numpy as np

from keras_mimo.compare.plot import plot_comparison

CONFIDENCE = 0.95
# Beside them stand the differences to the sum.
_COMPARED = ("fused", "calibrated", "worst alone")


@dataclasses.dataclass
class MethodRuns:
    """What came of a method.

    Attributes:
        name: String.
        chosen: Dict of the values that were chosen from lists.
        tried: List of all of them, dicts with a text of the score on validation
            data under `"validation"`.
        runs: Dict from seeds to records.
        time: Dict, the times of a step, or `None`.
        error: String, why it failed, or `None`.
    """

    name: str
    chosen: dict
    tried: list
    runs: dict
    time: dict | None
    error: str | None

    def column(self, title):
        """The values of a column of the table over the seeds, or `None`."""
        if self.error is not None:
            return None
        if title in ("ms/step", "ms more"):
            key = {"ms/step": "seconds", "ms more": "more"}[title]
            if self.time is None or "error" in self.time:
                return None
            return np.array([1e3 * self.time[key]])
        values = [_columns(run).get(title) for run in self.runs.values()]
        return None if None in values else np.array(values, dtype=float)


class Comparison:
    """Methods times seeds, as a table: what `keras_mimo.compare()` returns.

    Printed, it is the table. Accuracies are in %, as are the Shapley parts.

    Attributes:
        methods: List of one entry for each method, with `name`, `chosen` (of
            values that were lists), `runs` (a dict from seeds to all scores),
            `time` and `error`.
        baseline: Name of the plain sum of losses.
        seeds: List of integers.
        titles: List of the titles of all columns of numbers.
    """

    def __init__(self, methods, baseline, seeds):
        self.methods = methods
        self.baseline = baseline
        self.seeds = seeds
        titles = {}
        for method in methods:
            if method.error is None:
                run = next(iter(method.runs.values()))
                titles |= dict.fromkeys(_columns(run))
        if any(method.time for method in methods):
            titles |= dict.fromkeys(["ms/step", "ms more"])
        self.titles = list(titles)

    def column(self, method, title):
        """Values over the seeds.

        Args:
            method: Name of a method.
            title: One of `titles`.

        Returns:
            Array with a number for each seed, or `None` where there are none.
        """
        for found in self.methods:
            if found.name == method:
                return found.column(title)
        raise ValueError(
            f"`method` must be one of {[m.name for m in self.methods]}. "
            f"Received: method={method!r}"
        )

    def difference(self, method, title="fused"):
        """What a method has more than the sum, over pairs of equal seeds.

        Args:
            method: Name of a method.
            title: One of `titles`. Defaults to `"fused"`.

        Returns:
            Tuple of the mean difference and half of the width of its 95 %
            interval (Student's t), which is infinite for one seed; or `None`
            where there is nothing to compare.
        """
        values = self.column(method, title)
        sums = self.column(self.baseline, title)
        if values is None or sums is None:
            return None
        return paired_interval(values, sums)

    def __str__(self):
        head, *rows = self._cells()
        blocks = _blocks(head, rows, shutil.get_terminal_size().columns)
        tables = [_aligned(block) for block in blocks]
        return "\n\n".join([*tables, *self._notes()])

    def to_markdown(self):
        """The table in Markdown, and what it says below."""
        head, *rows = self._cells()
        marks = [":---", *["---:"] * (len(head) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (head, marks, *rows)]
        return "\n\n".join(["\n".join(lines), *self._notes()]) + "\n"

    def to_csv(self, path):
        """Writes a line for each method: means, standard deviations, interval.

        Args:
            path: String or path.
        """
        head = ["method", "chosen", "error", "seeds"]
        for title in self.titles:
            head.append(title)
            if not title.startswith("ms"):
                head.append(f"{title}, standard deviation")
                head.append(f"{title} - {self.baseline}")
                head.append(f"{title} - {self.baseline}, half interval")
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for method in self.methods:
                first = [method.name, _listed(method.chosen)]
                first += [method.error or "", len(method.runs)]
                cells = [self._numbers(method, title) for title in self.titles]
                writer.writerow(itertools.chain(first, *cells))

    def plot(self, path):
        """Draws the scores of all methods and seeds.

        Args:
            path: String or path of a picture.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_comparison(self, path)

    def _cells(self):
        """The table as text, a list of rows."""
        compared = _COMPARED if len(self.seeds) > 1 else ()
        head, rows = ["method"], [[method.name] for method in self.methods]
        for title in self.titles or ["fused"]:
            head.append(title)
            if title in compared:
                head.append(f"- {self.baseline}")
            for row, method in zip(rows, self.methods, strict=True):
                row.append(self._cell(method, title))
                if title in compared:
                    row.append(self._interval(method, title))
        return [head, *rows]

    def _interval(self, method, title):
        found = self.difference(method.name, title)
        if found is None or method.name == self.baseline:
            return "-"
        mean, half = found
        mark = " *" if abs(mean) > half else ""
        return f"{mean:+.1f} ± {half:.1f}{mark}"

    def _numbers(self, method, title):
        """What `to_csv()` writes of a column."""
        values = method.column(title)
        single = title.startswith("ms")
        if values is None:
            return [""] * (1 if single else 4)
        if single:
            return [values.mean()]
        found = self.difference(method.name, title) or ("", "")
        return [values.mean(), _spread(values), *found]

    def _cell(self, method, title):
        values = method.column(title)
        if method.error is not None and title == "fused":
            return "failed"
        if title != "ms more" or values is None:
            return _cell(title, values)
        if method.name == self.baseline:
            return "0"
        low, high = method.time["quartiles"]
        return f"{values[0]:+.2f} ± {500 * (high - low):.2f}"

    def _notes(self):
        """What the table says, and what it does not, as paragraphs."""
        notes = [self._caption()] if self.titles else []
        for method in self.methods:
            if method.error is not None:
                notes.append(f"{method.name} failed: {method.error}")
            elif method.chosen:
                notes.append(
                    f"{method.name}: {_listed(method.chosen)}, chosen of "
                    f"{len(method.tried)} on validation data."
                )
            if method.time is not None and "error" in method.time:
                notes.append(f"{method.name} not timed: {method.time['error']}")
        width = max(60, min(88, shutil.get_terminal_size().columns))
        return [textwrap.fill(note, width) for note in notes]

    def _caption(self):
        runs = [r for m in self.methods for r in m.runs.values()]
        accuracy = runs[0]["task"] != "regression"
        what = "Accuracy in %" if accuracy else "Mean squared error"
        text = f"{what} on {runs[0]['samples']} test samples"
        if len(self.seeds) > 1:
            text += (
                ", mean ± standard deviation over "
                f"{len(self.seeds)} seeds. Differences to {self.baseline} are "
                "of equal seeds, with their 95 % interval; * where it leaves "
                "out 0, which chance alone does once in twenty"
            )
        else:
            text += ". One seed can't tell a gain from noise"
        text += (
            '. "alone": a modality\'s own output. "worst lost": the fused '
            "output without the modality that it misses most. "
            '"part": the Shapley part of a modality'
        )
        if "probe" in " ".join(self.titles):
            text += '. "probe": a new linear head on the frozen encoder'
        if "ms more" in self.titles:
            text += (
                '. "ms/step": a step of training in milliseconds, of which '
                f'"ms more" is more than the step of {self.baseline} takes, '
                "timed in turns: the median, ± half the distance of quartiles"
            )
        return text + "."


def paired_interval(values, others):
    """The mean of paired differences, and half of its 95 % interval."""
    gaps = np.subtract(values, others)
    if len(gaps) < 2:
        return float(gaps.mean()), math.inf
    quantile = import_stats().t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    return float(gaps.mean()), float(quantile * error)


def import_stats():
    """SciPy's distributions, or an `ImportError` that says what to do."""
    try:
        from scipy import stats
    except ImportError as error:
        raise ImportError(
            "Intervals over seeds need SciPy. Install it with "
            "`pip install keras-mimo[compare]`."
        ) from error
    return stats


def value_of(score):
    """The number of a score that the table shows: of accuracies, in %."""
    if score is None:
        return math.nan
    if "accuracy" in score:
        return 100 * score["accuracy"]
    return score["mean_squared_error"]


def _columns(run):
    """The numbers of a run by the titles of their columns."""
    accuracy = run["task"] != "regression"
    columns = {"fused": value_of(run["fused"])}
    if "calibrated" in run:
        columns["calibrated"] = value_of(run["calibrated"])
    for name, score in run["alone"].items():
        columns[f"{name} alone"] = value_of(score)
    columns["worst alone"] = _worst(run["alone"], accuracy)
    for name, value in run.get("probe", {}).items():
        columns[f"{name} probe"] = 100 * value
    columns["worst lost"] = _worst(run["lost"], accuracy)
    for name, part in run["parts"].items():
        columns[f"{name} part"] = 100 * part if accuracy else part
    if accuracy:
        columns["log loss"] = run["fused"]["log_loss"]
    return columns


def _worst(scores, accuracy):
    values = list(map(value_of, scores.values()))
    return min(values) if accuracy else max(values)


def _cell(title, values):
    if values is None:
        return "-"
    digits = 3 if title == "log loss" else 1
    if title.startswith("ms"):
        digits = 2
    text = f"{values.mean():.{digits}f}"
    return (
        text if len(values) == 1 else f"{text} ± {_spread(values):.{digits}f}"
    )


def _spread(values):
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _listed(chosen):
    return ", ".join(f"{key}={value}" for key, value in chosen.items())


def _blocks(head, rows, width):
    """The table as several, none wider than the terminal."""
    table = [head, *rows]
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    chosen, blocks, used = [], [], math.inf
    for place in range(1, len(columns)):
        if used + widths[place] + 2 > width:
            chosen = [0]
            blocks.append(chosen)
            used = widths[0]
        chosen.append(place)
        used += widths[place] + 2
    return [[[row[p] for p in block] for row in table] for block in blocks]


def _aligned(table):
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *cells in table:
        right = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    return "\n".join(lines)
