import csv
import dataclasses

import numpy as np

from keras_mimo.compare.columns import columns_of
from keras_mimo.compare.intervals import paired_interval
from keras_mimo.compare.plot import plot_comparison
from keras_mimo.compare.table import Table


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
        values = [columns_of(run).get(title) for run in self.runs.values()]
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
                titles |= dict.fromkeys(columns_of(run))
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
        return Table(self).to_text()

    def to_markdown(self):
        """The table in Markdown, and what it says below."""
        return Table(self).to_markdown()

    def to_csv(self, path):
        """Writes a line for each method: means, standard deviations, intervals.

        Args:
            path: String or path.
        """
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(Table(self).to_rows())

    def plot(self, path):
        """Draws the scores of all methods and seeds.

        Args:
            path: String or path of a picture.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        plot_comparison(self, path)
