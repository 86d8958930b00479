import importlib
import numbers

import keras
import numpy as np

from keras_mimo import version
from keras_mimo.compare.columns import value_of
from keras_mimo.compare.comparison import Comparison
from keras_mimo.compare.comparison import MethodRuns
from keras_mimo.compare.fingerprint import key_of
from keras_mimo.compare.progress import Progress
from keras_mimo.compare.step_time import StepClock
from keras_mimo.compare.step_time import in_seconds
from keras_mimo.compare.workers import Task
from keras_mimo.compare.workers import do


class Schedule:
    """What runs there are to do, and what comes of them.

    Args:
        setup: `Setup`.
        methods: List of `Method`.
        seeds: List of integers.
        tuning: List of those that options are tried with.
        kept: `KeptRuns`.
        processes: Integer.
    """

    def __init__(self, setup, methods, seeds, tuning, kept, processes):
        self._setup = setup
        self._methods = methods
        self._seeds = seeds
        self._tuning = tuning
        self._kept = kept
        self._processes = processes
        # By the keys of runs.
        self._records = {}
        self._errors = {}
        # By the names of methods.
        self._failed = {}
        self._chosen = {method.name: {} for method in methods}
        self._tried = {method.name: [] for method in methods}
        shared = {k: v for k, v in vars(setup).items() if k != "build"}
        self._shared = key_of([shared, _versions()])
        self._baseline = next(m.name for m in methods if m.is_sum)
        self._models = {}
        self._settings = {}

    def run(self, verbose):
        """Does all that is not kept, and returns the `Comparison`."""
        tuned = [m for m in self._methods if m.options]
        first = []
        for seed in self._seeds:
            for method in self._methods:
                if not method.options:
                    first.append(self._task(method, {}, seed))
                elif seed in self._tuning:
                    first += [
                        self._task(method, chosen, seed)
                        for chosen in method.settings()
                    ]
        rest = [s for s in self._seeds if s not in self._tuning]
        progress = Progress(verbose)
        self._do(first, progress, len(rest) * len(tuned) + len(self._methods))
        for method in tuned:
            self._choose(method)
        second = [
            self._task(method, self._chosen[method.name], seed)
            for seed in rest
            for method in tuned
            if method.name not in self._failed
        ]
        self._do(second, progress, len(self._methods))
        times = self._times(progress)
        progress.close()
        return Comparison(
            [self._result(method, times) for method in self._methods],
            self._baseline,
            self._seeds,
        )

    def _task(self, method, chosen, seed):
        given = {**method.given, **chosen}
        trial = bool(method.options) and seed in self._tuning
        key = self._key(method, chosen, seed)
        return Task(method.name, given, chosen, seed, trial, key)

    def _key(self, method, chosen, kind):
        """What a record is kept by: all that it depends on but the name."""
        setting = method.name, *map(id, chosen.values())
        if setting not in self._settings:
            given = {**method.given, **chosen}
            own = {k: v for k, v in given.items() if k != "build"}
            # Once: what a function reads may change while it runs.
            self._settings[setting] = key_of(
                [self._shared, self._description(given), own]
            )
        return key_of([self._settings[setting], kind])

    def _description(self, given):
        """What `build` returns, by its layers and weights."""
        build = given.get("build", self._setup.build)
        if build not in self._models:
            try:
                keras.utils.set_random_seed(self._seeds[0])
                self._models[build] = key_of(build())
            except Exception as error:
                # The runs will say so.
                self._models[build] = str(error)
        return self._models[build]

    def _open(self, tasks):
        """The tasks that are still to be done."""
        left = []
        for task in tasks:
            record = self._kept.find(task.key)
            if record is not None:
                self._records[task.key] = record
            elif task.key not in self._records:
                left.append(task)
        return left

    def _wanted(self, task):
        return task.method not in self._failed

    def _do(self, tasks, progress, later):
        left = self._open(tasks)
        progress.expect(len(left) + later)
        for task, record, error in do(
            self._setup, left, self._processes, self._wanted
        ):
            if error is None:
                self._kept.add(_title(task), task.key, record)
                self._records[task.key] = record
                said = f"fused {value_of(record['fused']):.4g}"
            else:
                said = error
                self._errors[task.key] = error
                if not task.trial:
                    self._failed[task.method] = f"seed {task.seed}: {error}"
            progress.show(f"{_title(task)}: {said}")

    def _choose(self, method):
        """Chooses options by what they score on validation data."""
        scores, tried = {}, self._tried[method.name]
        for place, chosen in enumerate(method.settings()):
            keys = [self._task(method, chosen, s).key for s in self._tuning]
            errors = [self._errors[k] for k in keys if k in self._errors]
            shown = {k: _shown(v) for k, v in chosen.items()}
            if errors:
                tried.append({**shown, "error": errors[0]})
                continue
            found = [self._records[key]["validation"] for key in keys]
            means = {k: float(np.mean([f[k] for f in found])) for k in found[0]}
            tried.append({**shown, "validation": means})
            scores[place] = _rank(means)
        if scores:
            best = max(scores, key=scores.get)
            self._chosen[method.name] = method.settings()[best]
        else:
            self._failed[method.name] = f"with all options: {errors[0]}"

    def _times(self, progress):
        """The times of a step of all methods, by their names."""
        clock = StepClock(self._setup)
        times, open_ = {}, {}
        for method in self._methods:
            if method.name in self._failed:
                continue
            given = {**method.given, **self._chosen[method.name]}
            key = self._key(method, self._chosen[method.name], "step")
            found = self._kept.find(key)
            if found is None:
                open_[method.name] = given, key
            else:
                times[method.name] = found
        progress.expect(len(open_))
        for name, (given, key) in open_.items():
            try:
                times[name] = clock(given)
                self._kept.add(f"{name} time", key, times[name])
            except Exception as error:
                times[name] = {"error": f"{type(error).__name__}: {error}"}
            progress.show(f"time of {name}")
        plain = times.get(self._baseline, {}).get("plain")
        return {
            name: time
            if "error" in time
            else in_seconds(time, plain or time["plain"])
            for name, time in times.items()
        }

    def _result(self, method, times):
        chosen = self._chosen[method.name]
        error = self._failed.get(method.name)
        runs = {}
        if error is None:
            for seed in self._seeds:
                task = self._task(method, chosen, seed)
                runs[seed] = self._records[task.key]
        return MethodRuns(
            name=method.name,
            chosen={k: _shown(v) for k, v in chosen.items()},
            tried=self._tried[method.name],
            runs=runs,
            time=times.get(method.name),
            error=error,
        )


def _title(task):
    chosen = "".join(f", {k}={_shown(v)}" for k, v in task.chosen.items())
    return f"{task.method}{chosen}, seed {task.seed}"


def _shown(value):
    """An option in a table: a number, a string, or a name."""
    if isinstance(value, (numbers.Number, str, type(None))):
        return value
    return getattr(value, "__name__", type(value).__name__)


def _rank(score):
    """What is larger for the better of two scores."""
    if "accuracy" in score:
        return score["accuracy"], -score["log_loss"]
    return (-score["mean_squared_error"],)


def _versions():
    backend = keras.backend.backend()
    return {
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
        "keras_mimo": version.__version__,
        "floatx": keras.config.floatx(),
        "policy": keras.config.dtype_policy().name,
    }
