import contextlib

import keras
import numpy as np

from keras_mimo import gradients
from keras_mimo.callbacks.labelled_batches import LabelledBatches
from keras_mimo.callbacks.labelled_batches import num_samples
from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.graph import Renamed
from keras_mimo.fusion.unimodal_heads import last_activation
from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.layers.unimodal_teacher import UnimodalTeacher
from keras_mimo.model import BalancedModel
from keras_mimo.objectives import Outputs
from keras_mimo.utils.arguments import check_units


class TrainTeachers(keras.callbacks.Callback):
    """Trains the teachers of `keras_mimo.add_unimodal_teachers()`.

    When training begins, each teacher that no run has trained yet is trained
    with a head of its own, on its modality alone: by the loss of the fused
    output, and by a new optimizer like the model's. The heads are then gone.
    Whether a teacher is trained is saved with the model, so that a run that is
    resumed goes on with the teachers that it had.

    The model itself, its optimizer and its random numbers are left alone.
    Callbacks that load the model when training begins come before this one.

    Args:
        train: The training data: a tuple `(x, y)` or `(x, y, sample_weight)` of
            arrays, or a dataset of such batches that comes to an end.
        epochs: Positive integer. Take as many as the model is trained for.
        batch_size: Positive integer, for arrays. Give that of `fit()`. Defaults
            to `32`.
        seed: Non-negative integer, of the order of arrays and of the heads.
            Defaults to `0`.

    Attributes:
        history: List with a dict for each epoch, the mean loss of each teacher
            by the name of its modality.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If one is invalid or, in `fit()`, if the model has no
            teachers, or no loss of its fused output.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    model = keras_mimo.add_unimodal_teachers(model)
    model.compile("adam", loss, metrics=["accuracy"])
    teach = keras_mimo.callbacks.TrainTeachers((x, y), epochs=20)
    model.fit(x, y, epochs=20, callbacks=[teach])
    ```

    Reference:

    - [On Uni-Modal Feature Learning in Supervised Multi-Modal Learning](
        https://arxiv.org/abs/2305.01233)
    """

    def __init__(self, train, epochs, batch_size=32, seed=0):
        super().__init__()
        batch_size = check_units("batch_size", batch_size)
        self.train = LabelledBatches("train", train, batch_size)
        self.epochs = check_units("epochs", epochs)
        self.seed = check_units("seed", seed, positive=False)
        self.history = []

    def on_train_begin(self, logs=None):
        found = _teachers(self.model)
        new = {m: node for m, node in found.items() if not _trained(node)}
        if not new:
            return
        with contextlib.ExitStack() as stack:
            for node in new.values():
                stack.enter_context(node.operation.unfrozen())
            stack.enter_context(gradients.engine().forked_random_state())
            # TensorFlow's, whose replicas are to have the new variables too.
            strategy = getattr(self.model, "distribute_strategy", None)
            if strategy is not None:
                stack.enter_context(strategy.scope())
            self._train(_classifiers(self.model, new, self.seed))
        for node in new.values():
            node.operation.trained.assign(1.0)
        gradients.engine().agree(self.model)

    def _train(self, model):
        names = list(model.output)
        rng = np.random.default_rng(self.seed)
        one = len(names) == 1
        keys = ["loss" if one else f"{name}_loss" for name in names]
        for _ in range(self.epochs):
            total, count = np.zeros(len(names)), 0
            for x, y, sample_weight in self.train(rng):
                # Keras 3.12 goes on with the means of the batches before.
                model.reset_metrics()
                logs = model.train_on_batch(
                    x,
                    _of_outputs(y, names),
                    _of_outputs(sample_weight, names),
                    return_dict=True,
                )
                size = num_samples(x)
                total += size * np.array([float(logs[key]) for key in keys])
                count += size
            losses = (total / count).tolist()
            self.history.append(dict(zip(names, losses, strict=True)))


def _teachers(model):
    """Dict from modalities to the calls of their `UnimodalTeacher`."""
    found = {}
    if isinstance(getattr(model, "output", None), dict):
        found = {
            node.operation.name.removesuffix("_teacher"): node
            for node in calls(model.outputs)
            if isinstance(node.operation, UnimodalTeacher)
        }
    if not found:
        raise ValueError(
            "`TrainTeachers` needs a model that "
            "`keras_mimo.add_unimodal_teachers()` made. "
            f"Received: model={model}"
        )
    return found


def _trained(node):
    return bool(keras.ops.convert_to_numpy(node.operation.trained))


def _classifiers(model, teachers, seed):
    """A compiled model of the teachers, each with a head of its own."""
    fused = model.output["fused"]
    renamed = Renamed()
    outputs = {}
    for modality, node in teachers.items():
        _, inputs, *present = node.arguments.args
        head = keras.layers.Dense(
            fused.shape[-1],
            last_activation(fused),
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
            dtype=keras.config.floatx(),
        )
        layer = node.operation
        logits = head(renamed(layer.name, layer.teacher, inputs))
        if present != [None]:
            logits = KeepPresent(dtype=logits.dtype)([logits, *present])
        outputs[modality] = logits
    classifiers = BalancedModel(model.input, outputs)
    optimizer = model.optimizer
    classifiers.compile(
        type(optimizer).from_config(optimizer.get_config()),
        loss=dict.fromkeys(outputs, _fused_loss(model.loss)),
        objectives=Outputs(_of_fused(model.objectives.missing_label)),
        combiner="sum",
        run_eagerly=model.run_eagerly,
        jit_compile=model.jit_compile,
    )
    return classifiers


def _fused_loss(loss):
    found = _of_fused(loss)
    if found is None or isinstance(found, (list, tuple)):
        raise ValueError(
            "`TrainTeachers` needs one loss, or a dict of losses with one for "
            f"the fused output, to train teachers by. Received: loss={loss}"
        )
    return found


def _of_fused(given):
    return given.get("fused") if isinstance(given, dict) else given


def _of_outputs(given, names):
    """Labels or weights for each output: where it has none, the fused's."""
    if given is None:
        return None
    if not isinstance(given, dict):
        return dict.fromkeys(names, given)
    return {name: given.get(name, given["fused"]) for name in names}
