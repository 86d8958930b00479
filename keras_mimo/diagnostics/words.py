"""How a report says numbers."""


def score(task, value):
    if value is None:
        return "–"
    if task == "regression":
        return f"{value:.3g}"
    return f"{100 * value:.1f} %"


def points(task, value):
    """A difference of two scores."""
    if task == "regression":
        return f"{value:.3g}"
    return f"{100 * value:.1f} points"


def short(task, value):
    """A score in a table whose caption says the unit."""
    if value is None:
        return "–"
    return f"{value:.3g}" if task == "regression" else f"{100 * value:.1f}"


def reached(task, value):
    """A score as the end of a sentence about who has it."""
    if task == "regression":
        return f"has a mean squared error of {score(task, value)}"
    what = "of labels right" if task == "multilabel" else "right"
    return f"gets {score(task, value)} {what}"
