import importlib
import numbers

import keras
import numpy as np

from keras_mimo import version
from keras_mimo.compare.columns import value_of
from keras_mimo.compare.comparison import Comparison
from keras_mimo.compare.comparison import MethodRuns
from keras_mimo.compare.data import as_data
from keras_mimo.compare.fingerprint import key_of
from keras_mimo.compare.intervals import import_stats
from keras_mimo.compare.kept import KeptRuns
from keras_mimo.compare.methods import asks_for
from keras_mimo.compare.methods import parse_methods
from keras_mimo.compare.progress import Progress
from keras_mimo.compare.step_time import StepClock
from keras_mimo.compare.training import Setup
from keras_mimo.compare.workers import Task
from keras_mimo.compare.workers import do


def compare(
    build,
    train,
    test,
    validation=None,
    methods=("joint", "sum", "mimo"),
    *,
    compile,
    fit=None,
    seeds=5,
    tuning_seeds=1,
    calibrate=True,
    probe=False,
    task=None,
    folder=None,
    processes=1,
    verbose=1,
):
    """Which method is best on your data: trains with each, and makes a table.

    Every method starts from the same weights and sees the same batches, seed by
    seed. The plain sum of the losses, the strong baseline, is always among
    them, and each method has an interval of its differences to it: what is
    inside of it is noise.

    The test data are used for nothing but the scores of the table.

    Args:
        build: Function of nothing that returns a new, uncompiled
            `MultimodalModel`.
        train: What is trained on: a tuple `(x, y)` or `(x, y, sample_weight)`
            of arrays (`x` a dict of them, one each modality), or a dataset of
            such batches.
        test: The same, what is scored.
        validation: The same, what scales are fitted to, options are chosen on
            and methods with `"validate"` see. Defaults to `None`: where there
            are any of these, a fifth of `train`, of each class, is held out,
            another for each seed.
        methods: List of methods. Each is `"joint"` (the fused loss alone), a
            combiner or its name, a modulation or its name (which scales the
            sum of the losses), or a dict. A dict has a `"name"`,
            further arguments of `compile()`, among them `"combiner"` and
            `"modulation"`, and any of these:

            - arguments of the combiner or the modulation, where it is given as
              a name or a class, and not as an instance;
            - `"learning_rate"`, that of the optimizer;
            - `"compile"`: a function of the model that returns a dict of
              further arguments of `compile()`;
            - `"build"`: in the place of `build`;
            - `"callbacks"`: a function that returns a list. Its arguments, if
              any, are called `train` and `validation`: it gets the data, as
              they are given here, of the run;
            - `"validate"`: `True` if `fit()` is to get the validation data,
              as some callbacks and modulations ask for.

            An entry that is a list is values to choose from (a value that is
            itself a list stands in a list of one). Of all that lists can be
            combined to, the one with the best fused score on validation data
            is chosen, on ties the one with the lower loss, then the first.
        compile: Dict of arguments of `compile()`, the same for all methods:
            `"optimizer"`, `"loss"`, ... (lists are lists here).
        fit: Dict of arguments of `fit()`: `"epochs"`, `"batch_size"`, ...
            `"callbacks"` is a function that returns a list, as above.
        seeds: Integer, or a list of integers. Defaults to `5`.
        tuning_seeds: Integer, how many of the seeds options are tried with.
            Their scores are averaged. Defaults to `1`.
        calibrate: Whether to score the fused output after
            `keras_mimo.calibrate_fusion()` on validation data too. Defaults to
            `True`.
        probe: Whether to score a new linear head (of scikit-learn) on the
            frozen encoder of each modality, fitted to `train`. Defaults to
            `False`.
        task: As in `keras_mimo.calibrate_fusion()`.
        folder: Path of a folder where every run is kept as it finishes. The
            same call again goes on where an earlier one was stopped. A run is
            found again by all that it is made of: methods, seed, arguments,
            the model with its weights, the arrays. Of datasets only the class
            and the number of batches are known: take another folder where
            others come. Defaults to `None`: nothing is kept.
        processes: Integer, how many runs to do at a time, each in a process
            that imports `build` and gets a copy of the data. Defaults to `1`:
            all in this one.
        verbose: Whether to show how far it is, and the time left. Defaults to
            `1`.

    Returns:
        A `Comparison`: printed, a table with a row a method, with `to_csv()`,
        `to_markdown()` and `plot()`. A method that failed is a row that says
        why. Times of a step are taken after all runs, in this process.

    Raises:
        ImportError: If SciPy is not installed and there are several seeds.
        TypeError: If `build` is no function, or data or methods are none.
        ValueError: If a method has entries that nothing takes; if there are no
            seeds; if data must be held out of a dataset; or if `processes` are
            to do what can't be pickled.

    Example:

    ```python
    def build():
        return keras_mimo.late_fusion(
            {"accel": encoder(), "gyro": encoder()}, num_classes=7
        )

    result = keras_mimo.compare(
        build,
        (x_train, y_train),
        (x_test, y_test),
        methods=[
            "joint",
            "mgda",
            {
                "name": "MIMO",
                "combiner": "mimo",
                "penalty": [1.0, 10.0],
                "smoothing": [0.1, 1.0],
            },
        ],
        compile={
            "optimizer": "adam",
            "loss": keras.losses.SparseCategoricalCrossentropy(True),
        },
        fit={"epochs": 20, "batch_size": 64},
        folder="runs",
    )
    print(result)
    result.plot("table.png")
    ```
    """
    seeds = _seeds(seeds)
    if len(seeds) > 1:
        import_stats()
    methods = parse_methods(methods)
    fit = dict(fit or {})
    callbacks = _check_function("callbacks", fit.get("callbacks", list))
    validates = (
        calibrate
        or any(method.validates for method in methods)
        or asks_for(callbacks, "validation")
    )
    setup = Setup(
        build=_check_function("build", build),
        train=as_data("train", train),
        test=as_data("test", test),
        validation=(
            None if validation is None else as_data("validation", validation)
        ),
        compile=dict(compile),
        fit=fit,
        calibrate=calibrate,
        probe=probe,
        task=task,
        validates=validates,
    )
    # Before anything is trained: whether data can be held out.
    setup.parts(seeds[0])
    comparing = _Comparing(
        setup,
        methods,
        seeds,
        seeds[:tuning_seeds],
        KeptRuns(folder),
        processes,
    )
    return comparing.run(verbose)


class _Comparing:
    """A comparison in progress.

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
            next(m.name for m in self._methods if m.is_sum),
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
            key = self._key(method, self._chosen[method.name], "time")
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
        return times

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


def _seeds(seeds):
    if isinstance(seeds, numbers.Integral) and not isinstance(seeds, bool):
        seeds = range(seeds)
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            "`seeds` must be a positive integer, or a list of different ones. "
            f"Received: seeds={seeds}"
        )
    return seeds


def _check_function(argument, given):
    if not callable(given):
        raise TypeError(
            f"`{argument}` must be a function. "
            f"Received: {argument}={given} of type {type(given)}"
        )
    return given


def _versions():
    backend = keras.backend.backend()
    return {
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
        "keras_mimo": version.__version__,
        "floatx": keras.config.floatx(),
        "policy": keras.config.dtype_policy().name,
    }
