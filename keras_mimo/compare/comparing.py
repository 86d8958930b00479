import numbers

from keras_mimo.compare.data import as_data
from keras_mimo.compare.intervals import import_stats
from keras_mimo.compare.kept import KeptRuns
from keras_mimo.compare.methods import asks_for
from keras_mimo.compare.methods import parse_methods
from keras_mimo.compare.schedule import Schedule
from keras_mimo.compare.training import Setup


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
            - `"epochs"`, in the place of those of `fit`;
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
        why. Times of a step are taken after all runs, in this process and
        without callbacks; what a step takes more than that of the sum is the
        balancing, where a method has no other `build`.

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
    schedule = Schedule(
        setup,
        methods,
        seeds,
        seeds[:tuning_seeds],
        KeptRuns(folder),
        processes,
    )
    return schedule.run(verbose)


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
