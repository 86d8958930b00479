import math


def value_of(score):
    """The number of a score that the table shows: of accuracies, in %."""
    if score is None:
        return math.nan
    if "accuracy" in score:
        return 100 * score["accuracy"]
    return score["mean_squared_error"]


def columns_of(run):
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
