"""`python -m keras_mimo.compare`: a table for a module of the user's."""

import argparse
import importlib
import sys
from pathlib import Path

import keras

import keras_mimo
from keras_mimo import combiners
from keras_mimo import modulations

# Those that have to be told of logits.
LOSSES = {
    "sparse_categorical_crossentropy": (
        keras.losses.SparseCategoricalCrossentropy
    ),
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
}
DESCRIPTION = """\
Which method is best on your data: trains a model with each, and prints a table.

MODULE has two functions:

  build()  returns a new, uncompiled MultimodalModel
  load()   returns train, test and, optionally, validation: a tuple, or a dict
           with these keys, of tuples (x, y) or datasets
"""


def main(arguments=None):
    known = [*combiners.identifiers.names(), *modulations.names()]
    parser = argparse.ArgumentParser(
        prog="python -m keras_mimo.compare",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("module", help="a file, or a name to import")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["joint", "sum", "mimo"],
        metavar="METHOD",
        help=f"of joint, {', '.join(known)}; default: joint sum mimo",
    )
    parser.add_argument("--seeds", type=int, default=5, help="default: 5")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--optimizer", default="adam", help="default: adam")
    parser.add_argument(
        "--learning-rate", type=float, help="default: the optimizer's"
    )
    parser.add_argument(
        "--loss",
        default="sparse_categorical_crossentropy",
        help="a loss of Keras, of logits where it is a cross-entropy; default: "
        "sparse_categorical_crossentropy",
    )
    parser.add_argument(
        "--probe", action="store_true", help="new linear heads on the encoders"
    )
    parser.add_argument(
        "--no-calibration", action="store_true", help="hold nothing out for it"
    )
    parser.add_argument(
        "--folder", default="runs", help="where runs are kept; default: runs"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="runs at a time; default: 1"
    )
    parser.add_argument("--csv", help="file to write the table to")
    parser.add_argument("--plot", help="file to write a picture to")
    given = parser.parse_args(arguments)
    module = _imported(parser, given.module)
    optimizer = keras.optimizers.get(given.optimizer)
    if given.learning_rate is not None:
        optimizer.learning_rate = given.learning_rate
    loss = given.loss
    if loss in LOSSES:
        loss = LOSSES[loss](from_logits=True)
    result = keras_mimo.compare(
        module.build,
        **_data(module.load()),
        methods=given.methods,
        compile={"optimizer": optimizer, "loss": loss},
        fit={"epochs": given.epochs, "batch_size": given.batch_size},
        seeds=given.seeds,
        calibrate=not given.no_calibration,
        probe=given.probe,
        folder=given.folder,
        processes=given.processes,
    )
    print(f"\n{result}")
    if given.csv:
        result.to_csv(given.csv)
    if given.plot:
        result.plot(given.plot)


def _imported(parser, name):
    """A module, which other processes can import by its name too."""
    path = Path(name)
    folder = "."
    if path.suffix == ".py":
        if not path.exists():
            parser.error(f"there is no file {name}")
        name, folder = path.stem, str(path.parent.resolve())
    sys.path.insert(0, folder)
    module = importlib.import_module(name)
    for function in ("build", "load"):
        if not callable(getattr(module, function, None)):
            parser.error(f"{name} has no function {function}()")
    return module


def _data(loaded):
    if isinstance(loaded, dict):
        return loaded
    parts = ("train", "test", "validation")
    return dict(zip(parts, loaded, strict=False))


if __name__ == "__main__":
    main()
