import textwrap

from keras_mimo.diagnostics.verdicts import DOCS
from keras_mimo.diagnostics.words import short

_WIDTH = 79
PROBE = "Probe: a new linear head on the frozen encoder"


def table(report):
    """Rows of strings, the first of them the titles."""
    figures, found = report.figures, report.contributions
    task = found.task

    def scores(name, score):
        cells = [name, short(task, score and figures.score(score))]
        if not figures.is_regression:
            for key in ("log_loss", "calibration_error"):
                cells.append("–" if score is None else f"{score[key]:.3f}")
        return cells

    head = ["", "error" if figures.is_regression else "right"]
    if not figures.is_regression:
        head += ["log loss", "calibration error"]
    head += ["without it", "Shapley part"]
    rows = [head, [*scores("all together", found.fused), "–", "–"]]
    for name in found.modalities:
        part = short(task, found.parts[name])
        if found.errors is not None:
            part += f" ± {short(task, found.errors[name])}"
        lost = short(task, figures.score(found.lost[name]))
        rows.append([*scores(name, found.alone[name]), lost, part])
    if report.only_right is not None:
        head.append("only it right")
        rows[1].append("–")
        for name, row in zip(found.modalities, rows[2:], strict=True):
            share = figures.share(report.only_right[name])
            row.append(short(task, share))
    if report.probe:
        head.append("probe")
        rows[1].append("–")
        for name, row in zip(found.modalities, rows[2:], strict=True):
            row.append(short(task, report.probe.get(name)))
    return rows


def caption(report):
    found = report.contributions
    if found.task == "regression":
        text = f"Mean squared errors on {found.num_samples} samples"
    else:
        text = (
            f"In % of {found.num_samples} samples, but for the log loss and "
            "the calibration error (0 is best)"
        )
    text += (
        ". A modality's row: its own output. Without it: the fused output "
        "where it is lost. Shapley part: what it adds, averaged over all "
        "orders in which modalities could come one by one"
    )
    if found.errors is not None:
        text += ", a sample of them, with the standard error of that"
    if report.probe:
        text += f". {PROBE}"
    return text + "."


def as_text(report):
    """A report for a terminal."""
    rows = table(report)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        right = [c.rjust(w) for c, w in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *right]))
    blocks = ["\n".join(lines), textwrap.fill(caption(report), _WIDTH)]
    last = None
    for verdict in report.verdicts:
        text = f"{verdict.title}. {verdict.text} Try: "
        text += "the same." if verdict.advice == last else verdict.advice
        if verdict.link and verdict.advice != last:
            text += f" See {DOCS}/{verdict.link}."
        last = verdict.advice
        blocks.append(textwrap.fill(text, _WIDTH, subsequent_indent="  "))
    if not report.verdicts and report.is_enough:
        blocks.append("Nothing in these figures asks for a change.")
    blocks += [textwrap.fill(note, _WIDTH) for note in report.notes]
    return "\n\n".join(blocks)
