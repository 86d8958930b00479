from keras_mimo.fusion.encoded import encode
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.layers.alternating_head import AlternatingHead


def alternating_fusion(encoders, num_classes, alpha=0.1, name=None):
    """Builds a model whose modalities take turns in training one head.

    Multi-modal learning with alternating uni-modal adaptation (MLA): in each
    step of training one modality alone trains its encoder and the head that all
    share, whose gradient keeps off what the modalities before span. In
    inference, `fused` is the sum of the modalities' logits, in which the surer
    count more. `keras_mimo.layers.AlternatingHead` has the formulas.

    Compile it without a combiner, or with any of losses: the fused output alone
    trains. Each batch is one modality's: with `M` of them, train for `M` times
    the epochs. No sample may lack a modality.

    Args:
        encoders: Dict of encoders, as in `keras_mimo.late_fusion()`, with
            features of one width.
        num_classes: Positive integer, the width of the logits.
        alpha: Positive float, how much of its gradient the head keeps in the
            directions of features it knows: more of it for a larger `alpha`.
            Defaults to `0.1`.
        name: Optional name of the model.

    Returns:
        A functional `MultimodalModel`, of logits.

    Raises:
        TypeError: As from `late_fusion()`.
        ValueError: As from there, or if the features differ in width.

    Example:

    ```python
    model = keras_mimo.alternating_fusion(
        {"accel": accel, "gyro": gyro}, num_classes=7
    )
    model.compile(
        keras.optimizers.SGD(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit({"accel": x_accel, "gyro": x_gyro}, y, epochs=40)
    ```

    Reference:

    - [Multimodal Representation Learning by Alternating Unimodal Adaptation](
        https://arxiv.org/abs/2311.10707)
    """
    parts = encode(encoders, num_classes, missing=None)
    head = AlternatingHead(int(num_classes), alpha, name="logits")
    outputs = {"fused": head(parts.features)}
    for modality, features in parts.features.items():
        outputs[modality] = head(features)
    return MultimodalModel(parts.inputs, outputs, name=name)
