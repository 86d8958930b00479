import keras
from keras import tree

from keras_mimo.fusion.arguments import check_encoders
from keras_mimo.fusion.graph import Renamed
from keras_mimo.fusion.graph import encoder_inputs
from keras_mimo.fusion.graph import is_shape
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.layers.mean_prediction import MeanPrediction


def unimodal_ensemble(models, activation="softmax", name=None):
    """Averages what models of one modality each predict.

    Uni-modal ensemble (UME): `fused` is the mean of the models' probabilities,
    as logits again, and each modality's own output is that of its model. No
    modality can learn from another, and none can keep another from learning:
    what any fusion has to beat. `keras_mimo.calibrate_fusion` turns the mean
    into a sum with fitted scales.

    The models can be trained before, or all at once here: then by their own
    losses, with no weight on the fused one, as below.

    Args:
        models: Dict from the name of a modality to a Keras model or layer from
            its input to logits of shape `(batch, width)`, with names and inputs
            as those of the encoders of `keras_mimo.late_fusion()`. They keep
            their weights.
        activation: `"softmax"`, or `"sigmoid"` where the logits are those of
            several labels, or `"linear"` for values. Defaults to `"softmax"`.
        name: Optional name of the model.

    Returns:
        A functional `MultimodalModel`.

    Raises:
        TypeError: If `models` is no dict of Keras models or layers.
        ValueError: If there are fewer than two, a name can't be used, or they
            do not return logits of one shape.

    Example:

    ```python
    model = keras_mimo.unimodal_ensemble({"accel": accel, "gyro": gyro})
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=keras_mimo.ConstantCombiner({"accel": 1.0, "gyro": 1.0}),
    )
    model.fit({"accel": x_accel, "gyro": x_gyro}, y)
    ```

    Reference:

    - [On Uni-Modal Feature Learning in Supervised Multi-Modal Learning](
        https://arxiv.org/abs/2305.01233)
    """
    check_encoders(models, "models")
    renamed = Renamed()
    inputs, outputs = {}, {}
    for modality, model in models.items():
        inputs[modality] = encoder_inputs(modality, model)
        outputs[modality] = renamed(
            f"{modality}_model", model, inputs[modality]
        )
    shapes = tree.map_structure(lambda x: x.shape, list(outputs.values()))
    if (
        not is_shape(shapes[0])
        or len(shapes[0]) != 2
        or shapes[1:] != shapes[:-1]
    ):
        raise ValueError(
            "The values of `models` must return logits of one shape, "
            f"`(batch, width)`. Received: models that return {shapes}"
        )
    dtype = keras.config.floatx()
    # A loss computed in float16 would overflow.
    outputs = {
        modality: logits
        if logits.dtype == dtype
        else keras.layers.Activation(
            "linear", dtype=dtype, name=f"{modality}_{dtype}"
        )(logits)
        for modality, logits in outputs.items()
    }
    fused = MeanPrediction(activation, name="fused")(outputs)
    return MultimodalModel(inputs, {"fused": fused, **outputs}, name=name)
