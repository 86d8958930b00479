"""What `fit()` returned, in the forms that a user has it."""

import numpy as np


def runs_by_name(histories):
    """Dict from the names of ways to train to lists of dicts of logs.

    Args:
        histories: As in `training_curves()`.

    Raises:
        TypeError: If it is no such thing.
        ValueError: If it is empty.
    """
    if isinstance(histories, dict) and not _is_run(histories):
        named = {
            name: runs if isinstance(runs, (list, tuple)) else [runs]
            for name, runs in histories.items()
        }
    else:
        several = isinstance(histories, (list, tuple))
        named = {"": histories if several else [histories]}
    if not named or not all(named.values()):
        raise ValueError(
            "`histories` must hold at least one run, of each way to train. "
            f"Received: histories={histories}"
        )
    return {name: [_logs(run) for run in runs] for name, runs in named.items()}


def stacked(runs, name):
    """A score of several runs, an array of shape `(runs, epochs)`."""
    missing = [run for run in runs if name not in run]
    if missing:
        raise ValueError(
            f"`histories` must have {name!r} in the logs of every run. "
            f"Received: logs {list(missing[0])}"
        )
    lengths = {len(run[name]) for run in runs}
    if len(lengths) > 1:
        raise ValueError(
            "`histories` must be of as many epochs in every run. "
            f"Received: {sorted(lengths)}"
        )
    return np.array([run[name] for run in runs], "float64")


def _is_run(value):
    """Whether a dict is of logs: of lists of numbers."""
    first = next(iter(value.values()), None)
    return (
        isinstance(first, (list, tuple, np.ndarray))
        and len(first) > 0
        and np.isscalar(first[0])
    )


def _logs(run):
    logs = getattr(run, "history", run)
    if not isinstance(logs, dict):
        raise TypeError(
            "`histories` must be what `fit()` returned, or dicts of logs. "
            f"Received: {run!r} of type {type(run)}"
        )
    return logs
