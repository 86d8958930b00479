from html import escape

from keras_mimo.diagnostics.report_style import STYLE
from keras_mimo.diagnostics.report_table import PROBE
from keras_mimo.diagnostics.report_table import table
from keras_mimo.diagnostics.verdicts import DOCS
from keras_mimo.diagnostics.words import points
from keras_mimo.diagnostics.words import score
from keras_mimo.diagnostics.words import short

# Of the samples that only one modality gets right, so many are named.
_NAMED = 20


def page(report):
    """A report as one HTML file: no script, no picture, nothing to fetch."""
    sections = [
        _whole(report),
        _alone(report),
        _parts(report),
        _only(report),
        _table(report),
        _verdicts(report),
    ]
    body = "\n".join(filter(None, sections)).replace(
        " %", "\N{NO-BREAK SPACE}%"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<title>What each modality does</title>\n"
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _whole(report):
    found, figures = report.contributions, report.figures
    task = found.task
    count = len(report.verdicts)
    if count:
        summary = f"{count} thing{'s' * (count > 1)} to look at"
    elif report.is_enough:
        summary = "Nothing in these figures asks for a change"
    else:
        summary = "Too few samples for a verdict"
    fused = figures.score(found.fused)
    error = points(task, figures.fused().error)
    if figures.is_regression:
        text = f"0 is perfect; standard error {error}"
        tiles = [("mean squared error", score(task, fused), text)]
    else:
        what = "of labels right" if task == "multilabel" else "right"
        said = score(task, figures.confidence().mean)
        tiles = [
            (
                what,
                score(task, fused),
                f"of {found.num_samples} samples; standard error {error}",
            ),
            (
                "log loss",
                f"{found.fused['log_loss']:.3f}",
                "lower is better; it punishes being sure and wrong",
            ),
            (
                "calibration error",
                f"{found.fused['calibration_error']:.3f}",
                f"0 is best. On average it says it is {said} sure",
            ),
        ]
    cells = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span>'
        f"<small>{text}</small></div>"
        for name, value, text in tiles
    )
    return (
        "<h1>What each modality does</h1>\n"
        f"<p>A model of {_listed(found.modalities)}, on {found.num_samples} "
        "samples that should be new to it. A modality is one kind of input, "
        "such as a sensor, a picture or a text.</p>\n"
        f'<p><a class="summary" href="#says">{summary}</a></p>\n'
        f'<h2>All together</h2>\n<div class="tiles">{cells}</div>'
    )


def _alone(report):
    found, figures = report.contributions, report.figures
    fused = figures.score(found.fused)
    values = [fused, *map(figures.score, found.lost.values())]
    values += [figures.score(found.alone[m]) for m in figures.scored]
    top = max(values) if figures.is_regression else 1
    mark = _place(fused, top)

    def row(label, value, kind):
        bar = "" if value is None else _bar(kind, 0, _place(value, top))
        return (
            f'<div class="row"><span class="label">{label}</span>'
            f'<span class="track">{bar}<i style="left:{mark}"></i></span>'
            f'<span class="value">{score(found.task, value)}</span></div>'
        )

    blocks = "".join(
        f"<h3>{escape(name)}</h3>"
        + row("alone", figures.score(found.alone[name]), "own")
        + row("without it", figures.score(found.lost[name]), "lost")
        for name in found.modalities
    )
    better = (
        "shorter is better" if figures.is_regression else "longer is better"
    )
    return (
        "<h2>Alone, and without it</h2>\n<p><b>Alone</b> is how well a "
        "modality's own answer does. <b>Without it</b> is how well all others "
        "do together when it is taken away. The line marks all together, "
        f"{score(found.task, fused)}; {better}.</p>\n{blocks}"
    )


def _parts(report):
    found, figures = report.contributions, report.figures
    names = found.modalities
    low = min(0, *found.parts.values())
    span = (max(0, *found.parts.values()) - low) or 1
    zero = -low / span
    axis = f'<i style="left:{_place(zero, 1)}"></i>' if low < 0 else ""

    def row(name):
        part = found.parts[name]
        start = zero if part >= 0 else (part - low) / span
        kind = "part" if part >= 0 else "minus"
        bar = _bar(kind, start, f"{100 * abs(part) / span:.2f}%")
        text = points(found.task, part)
        if found.errors is not None:
            error = short(found.task, found.errors[name])
            text = f"{short(found.task, part)} ± {error}"
        return _one(name, bar + axis, text)

    everything = frozenset(names)
    nothing = found.values[frozenset()]
    what = "error" if figures.is_regression else "share of right answers"
    change = "falls" if figures.is_regression else "rises"
    text = (
        "Start with no modality, and switch them on one after the other. Each "
        f"time, note how far the {what} {change}. That depends on the order, "
        "so it is done for "
        + (
            "all orders"
            if found.errors is None
            else "a sample of the orders, with its standard error,"
        )
        + " and averaged. The mean is the modality's part, and the parts add "
        f"up: from {score(found.task, abs(nothing))} with no modality to "
        f"{score(found.task, abs(found.values[everything]))} with all. It is "
        "called the Shapley value."
    )
    if low < 0:
        text += (
            " Where it is below 0 (bars to the left), the modality does more "
            "harm than good."
        )
    rows = "".join(map(row, names))
    return f"<h2>What each one adds</h2>\n<p>{text}</p>\n{rows}"


def _only(report):
    if report.only_right is None:
        return ""
    found, figures = report.contributions, report.figures
    shares = {m: figures.share(i) for m, i in report.only_right.items()}
    top = max(shares.values()) or 1

    def row(name, samples):
        bar = _bar("own", 0, _place(shares[name], top))
        text = _one(name, bar, score(found.task, shares[name]))
        if not len(samples):
            return text
        right = score(found.task, figures.fused_right(samples))
        listed = ", ".join(map(str, samples[:_NAMED]))
        more = len(samples) - _NAMED
        if more > 0:
            listed += f" and {more} more"
        return (
            f"{text}<details><summary>{len(samples)} samples, of which all "
            f"together get {right} right</summary><p>Their numbers in the "
            f"data, from 0: {listed}.</p></details>"
        )

    rows = "".join(row(m, i) for m, i in report.only_right.items())
    return (
        "<h2>What only one gets right</h2>\n<p>The share of samples that this "
        f"modality alone gets right and none of the others does.</p>\n{rows}"
    )


def _table(report):
    head, *rows = table(report)
    found = report.contributions
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for first, *cells in rows
    )
    unit = (
        "Mean squared errors."
        if found.task == "regression"
        else "In %, but for the log loss and the calibration error."
    )
    if report.probe:
        unit += f" {PROBE}."
    return (
        f"<h2>All figures</h2>\n<p>{unit}</p>\n"
        '<div class="wide" tabindex="0"><table>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _verdicts(report):
    blocks, last = [], None
    for verdict in report.verdicts:
        advice, link = escape(verdict.advice), ""
        if verdict.advice == last:
            advice = "the same."
        elif verdict.link:
            place = f"{DOCS}/{verdict.link}"
            link = f' <a href="{place}">The guide says more</a>.'
        last = verdict.advice
        blocks.append(
            f'<div class="verdict"><h3>{escape(verdict.title)}</h3>'
            f"<p>{escape(verdict.text)}</p>"
            f"<p><b>Try:</b> {advice}{link}</p></div>"
        )
    if not blocks and report.is_enough:
        blocks.append("<p>Nothing in these figures asks for a change.</p>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return (
        '<h2 id="says">What this says</h2>\n'
        + "\n".join(blocks)
        + f"\n<h3>What it can't say</h3>\n<ul>{notes}</ul>"
    )


def _place(value, top):
    return f"{100 * value / (top or 1):.2f}%"


def _bar(kind, start, width):
    return (
        f'<span class="bar {kind}" style="left:{100 * start:.2f}%;'
        f'width:{width}"></span>'
    )


def _one(name, bar, value):
    return (
        f'<h3>{escape(name)}</h3><div class="row one"><span class="track">'
        f'{bar}</span><span class="value">{value}</span></div>'
    )


def _listed(names):
    names = [f"<b>{escape(name)}</b>" for name in names]
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
