import keras

from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.layers.unimodal_teacher import UnimodalTeacher


def add_unimodal_teachers(model, teachers=None, weight=1.0):
    """Has each encoder of a model taught by one that knows its modality alone.

    Uni-modal teachers (UMT). With the features `f_m` of modality `m` and those
    of a frozen teacher `t_m`, which was trained without the other modalities,
    the loss of the model becomes

    `L + weight * sum_m mean((f_m - t_m)^2)`,

    where `L` is what it is trained by: the fused loss in the paper, which
    `compile()` without a combiner descends. The terms are no objectives: to any
    combiner of losses or gradients they are additional losses, like those of
    regularisers, with weight 1. In inference, and in what is exported, the
    teachers take no part; a `.keras` file holds them, to train on.

    Args:
        model: A `MultimodalModel` with encoders called `<modality>_encoder`,
            such as `late_fusion()` and `intermediate_fusion()` return.
        teachers: Dict from modalities to trained Keras models or layers that
            take what the encoder takes and return features of the same shape,
            or a `MultimodalModel` that has such encoders. They are frozen. A
            modality that is left out has no teacher. Defaults to `None`: new
            encoders like those of `model`, which
            `keras_mimo.callbacks.TrainTeachers` trains when training begins.
        weight: Non-negative float. Defaults to `1.0` (our choice; it depends
            on the scale of the features: tune it. With a large one the encoders
            follow their teachers, and what fuses them learns late).

    Returns:
        A `MultimodalModel` with the layers of `model`, and their weights.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If `model` has no such encoders, `teachers` names a modality
            that has none, or a teacher returns other features.

    Example:

    ```python
    teachers = keras_mimo.late_fusion(new_encoders(), num_classes=7)
    alone = keras_mimo.ConstantCombiner({"accel": 1.0, "gyro": 1.0})
    teachers.compile("adam", loss, combiner=alone)
    teachers.fit(x, y, epochs=20)

    model = keras_mimo.late_fusion(new_encoders(), num_classes=7)
    model = keras_mimo.add_unimodal_teachers(model, teachers)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=20)
    ```

    Reference:

    - [On Uni-Modal Feature Learning in Supervised Multi-Modal Learning](
        https://arxiv.org/abs/2305.01233)
    """
    encoders = _encoders("model", model)
    trained = teachers is not None
    if not trained:
        teachers = {name: _anew(layer) for name, layer in encoders.items()}
    elif isinstance(teachers, MultimodalModel):
        teachers = _encoders("teachers", teachers)
    if not isinstance(teachers, dict):
        raise TypeError(
            "`teachers` must be a dict from the names of modalities to Keras "
            "models, or a `MultimodalModel`. "
            f"Received: teachers={teachers} of type {type(teachers)}"
        )
    unknown = [name for name in teachers if name not in encoders]
    if unknown or not teachers:
        raise ValueError(
            "`teachers` must name modalities that have an encoder in `model`, "
            f"which are {list(encoders)}. Received: {list(teachers)}"
        )
    same = [m for m, teacher in teachers.items() if teacher is encoders[m]]
    if same:
        raise ValueError(
            "`teachers` must not be the encoders of `model` itself. "
            f"Received: those of {same}"
        )
    taught = {
        encoders[modality]: _Taught(
            UnimodalTeacher(teacher, weight, name=f"{modality}_teacher"),
            encoders[modality],
            _present(model.output[modality]),
        )
        for modality, teacher in teachers.items()
    }
    outputs = _rebuilt(model, taught)
    for beside in taught.values():
        beside.layer.trained.assign(trained)
    return MultimodalModel(model.input, outputs, name=model.name)


class _Taught:
    """An encoder, and its teacher beside it."""

    def __init__(self, layer, encoder, present):
        self.layer = layer
        self._encoder = encoder
        self._present = present

    def __call__(self, *args, **kwargs):
        features = self._encoder(*args, **kwargs)
        return self.layer(features, args[0], self._present)


def _rebuilt(model, taught):
    outputs = model._run_through_graph(
        model.inputs, lambda operation: taught.get(operation, operation)
    )
    return {name: outputs[name] for name in model.output}


def _encoders(argument, model):
    if not isinstance(model, MultimodalModel):
        raise TypeError(
            f"`{argument}` must be a `keras_mimo.MultimodalModel`. "
            f"Received: {argument}={model} of type {type(model)}"
        )
    encoders = model._named_encoders()
    if not encoders:
        raise ValueError(
            f"`{argument}` must have layers called `<modality>_encoder`, as "
            "`keras_mimo.late_fusion()` makes them. "
            f"Received: {argument}={model} with the layers "
            f"{[layer.name for layer in model.layers]}"
        )
    return encoders


def _anew(layer):
    """A layer of the same kind, with new weights."""
    if isinstance(layer, keras.Model):
        return keras.models.clone_model(layer)
    return type(layer).from_config(layer.get_config())


def _present(output):
    """Which samples have the modality of an output; `None` where all have."""
    for node in calls([output]):
        if isinstance(node.operation, KeepPresent):
            return node.input_tensors[1]
    return None
