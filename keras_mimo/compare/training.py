import dataclasses
import gc
import typing

import keras
import numpy as np

from keras_mimo.compare.data import Data
from keras_mimo.compare.data import held_out
from keras_mimo.compare.methods import call_with
from keras_mimo.compare.methods import made
from keras_mimo.diagnostics.contributions import contributions
from keras_mimo.diagnostics.probe import linear_probe
from keras_mimo.fusion.calibration import calibrate_fusion
from keras_mimo.fusion.fusion_calibration import summed
from keras_mimo.fusion.held_out import check_outputs
from keras_mimo.fusion.held_out import check_weights
from keras_mimo.fusion.held_out import collect
from keras_mimo.fusion.scores import scores
from keras_mimo.fusion.tasks import check_task
from keras_mimo.fusion.tasks import missing_labels
from keras_mimo.fusion.tasks import targets


@dataclasses.dataclass
class Setup:
    """What all runs of a comparison share.

    Args:
        build: As in `compare()`, like all that follow.
        train: `Data`.
        test: `Data`.
        validation: `Data` or `None`.
        compile: Dict.
        fit: Dict.
        calibrate: Boolean.
        probe: Boolean.
        task: String or `None`.
        validates: Boolean: whether anything is fitted to, or chosen on,
            validation data. Without such data a part of `train` is held out.
    """

    build: typing.Callable
    train: Data
    test: Data
    validation: Data | None
    compile: dict
    fit: dict
    calibrate: bool
    probe: bool
    task: str | None
    validates: bool

    def parts(self, seed):
        """What is trained on, and what is validated on or `None`."""
        if self.validation is not None or not self.validates:
            return self.train, self.validation
        return held_out(self.train, seed)


def train_and_score(setup, given, seed):
    """A run: builds, trains and scores a model.

    Args:
        setup: `Setup`.
        given: Dict, what the method has of its own.
        seed: Integer.

    Returns:
        Dict that JSON can hold.
    """
    keras.utils.set_random_seed(seed)
    model = made(setup.build, setup.compile, given)
    train, validation = setup.parts(seed)
    options = {"verbose": 0, **setup.fit}
    if "epochs" in given:
        options["epochs"] = given["epochs"]
    data = {"train": train.as_given()}
    if validation is not None:
        data["validation"] = validation.as_given()
    callbacks = [
        callback
        for made_by in (
            options.pop("callbacks", list),
            given.get("callbacks", list),
        )
        for callback in call_with(made_by, data)
    ]
    if given.get("validate"):
        options["validation_data"] = data["validation"]
    # The same batches, whatever was drawn at random before.
    keras.utils.set_random_seed(seed)
    model.fit(**train._asdict(), callbacks=callbacks, **options)
    record = {}
    calibration = None
    if setup.calibrate:
        calibration = calibrate_fusion(
            model, *validation, task=setup.task, verbose=0
        )
        model.calibration = None
        record["validation"] = calibration.before
        record["scales"] = calibration.scales
    elif setup.validates:
        record["validation"] = _fused_score(model, validation, setup.task)
    found = contributions(model, *setup.test, task=setup.task)
    record |= _test_record(found, calibration)
    if setup.probe:
        record["probe"] = linear_probe(model, train, setup.test, setup.task)
    del model
    # Compiled functions refer to their model, and it to them.
    gc.collect()
    return record


def _test_record(found, calibration):
    record = {
        "task": found.task,
        "samples": found.num_samples,
        "fused": found.fused,
        "alone": found.alone,
        "lost": found.lost,
        "values": {"+".join(sorted(k)): v for k, v in found.values.items()},
        "parts": found.parts,
        "part_errors": found.errors,
    }
    if calibration is not None:
        fused = summed(calibration, found.outputs)
        record["calibrated"] = scores(
            found.task, fused, found.targets, found.weights
        )
    return record


def _fused_score(model, data, task):
    task = check_task(task, model)
    outputs, labels, weights = collect(
        model, *data, batch_size=None, look=lambda x: None
    )
    fused = outputs["fused"]
    check_outputs({"fused": fused})
    wanted, absent = targets(
        task, labels, fused.shape[1], missing_labels(model)
    )
    weights = check_weights(weights, absent)
    return scores(task, np.asarray(fused), wanted, weights)
