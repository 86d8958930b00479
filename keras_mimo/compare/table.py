import itertools
import math
import shutil
import textwrap

# Beside them stand the differences to the sum.
_COMPARED = ("fused", "calibrated", "worst alone")


class Table:
    """A comparison as text.

    Args:
        comparison: A `Comparison`.
    """

    def __init__(self, comparison):
        self._comparison = comparison
        self._methods = comparison.methods
        self._titles = comparison.titles
        self._several = len(comparison.seeds) > 1
        runs = [run for m in self._methods for run in m.runs.values()]
        self._run = runs[0] if runs else {"task": None}
        self._accuracy = self._run["task"] != "regression"

    def to_text(self):
        width = shutil.get_terminal_size().columns
        blocks = map(_aligned, _blocks(self._cells(), width))
        return "\n\n".join([*blocks, *self._notes()])

    def to_markdown(self):
        head, *rows = self._cells()
        marks = [":---", *["---:"] * (len(head) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (head, marks, *rows)]
        return "\n\n".join(["\n".join(lines), *self._notes()]) + "\n"

    def to_rows(self):
        """Lists of numbers and strings, the first of them the titles."""
        baseline = self._comparison.baseline
        head = ["method", "chosen", "error", "seeds"]
        for title in self._titles:
            head.append(title)
            if not _is_time(title):
                head += [
                    f"{title}, standard deviation",
                    f"{title} - {baseline}",
                    f"{title} - {baseline}, half interval",
                ]
        rows = [head]
        for method in self._methods:
            first = [method.name, _listed(method.chosen)]
            first += [method.error or "", len(method.runs)]
            cells = [self._numbers(method, title) for title in self._titles]
            rows.append(list(itertools.chain(first, *cells)))
        return rows

    def _numbers(self, method, title):
        values = method.column(title)
        if values is None:
            return [""] * (1 if _is_time(title) else 4)
        if _is_time(title):
            return [values.mean()]
        found = self._comparison.difference(method.name, title) or ("", "")
        return [values.mean(), _spread(values), *found]

    def _cells(self):
        compared = _COMPARED if self._several else ()
        head, rows = ["method"], [[method.name] for method in self._methods]
        for title in self._titles or ["fused"]:
            head.append(title)
            if title in compared:
                head.append(f"- {self._comparison.baseline}")
            for row, method in zip(rows, self._methods, strict=True):
                row.append(self._cell(method, title))
                if title in compared:
                    row.append(self._interval(method, title))
        return [head, *rows]

    def _cell(self, method, title):
        values = method.column(title)
        if method.error is not None and title == "fused":
            return "failed"
        if values is None:
            return "-"
        mean = self._number(title, values.mean())
        if title == "ms more":
            if method.name == self._comparison.baseline:
                return "0"
            low, high = method.time["quartiles"]
            return f"{values[0]:+.2f} ± {500 * (high - low):.2f}"
        if len(values) == 1:
            return mean
        return f"{mean} ± {self._number(title, _spread(values))}"

    def _interval(self, method, title):
        found = self._comparison.difference(method.name, title)
        if found is None or method.name == self._comparison.baseline:
            return "-"
        mean, half = found
        mark = " *" if abs(mean) > half else ""
        sign = "+" if mean >= 0 else "-"
        mean, half = (self._number(title, abs(value)) for value in found)
        return f"{sign}{mean} ± {half}{mark}"

    def _number(self, title, value):
        if _is_time(title):
            return f"{value:.2f}"
        if title == "log loss":
            return f"{value:.3f}"
        return f"{value:.1f}" if self._accuracy else f"{value:.3g}"

    def _notes(self):
        """What the table says, and what it does not, as paragraphs."""
        notes = [self._caption()] if self._titles else []
        for method in self._methods:
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
        baseline = self._comparison.baseline
        what = "Accuracy in %" if self._accuracy else "Mean squared error"
        text = f"{what} on {self._run['samples']} test samples"
        if self._several:
            text += (
                ", mean ± standard deviation over "
                f"{len(self._comparison.seeds)} seeds. Differences to "
                f"{baseline} are of equal seeds, with their 95 % interval; * "
                "where it leaves out 0, which chance alone does once in twenty"
            )
        else:
            text += ". One seed can't tell a gain from noise"
        text += (
            '. "alone": a modality\'s own output. "worst lost": the fused '
            "output without the modality that it misses most. "
            '"part": the Shapley part of a modality'
        )
        if any(title.endswith(" probe") for title in self._titles):
            text += '. "probe": a new linear head on the frozen encoder'
        if "ms more" in self._titles:
            text += (
                '. "ms/step": a step of training in milliseconds, of which '
                f'"ms more" is more than the step of {baseline} takes, timed '
                "in turns: the median, ± half the distance of quartiles"
            )
        return text + "."


def _is_time(title):
    return title in ("ms/step", "ms more")


def _spread(values):
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _listed(chosen):
    return ", ".join(f"{key}={value}" for key, value in chosen.items())


def _blocks(table, width):
    """The table as several, none wider than the terminal."""
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
