import keras
from keras import ops

from keras_mimo.fusion.encoded import absent_features
from keras_mimo.fusion.encoded import encode
from keras_mimo.fusion.encoded import to_logits
from keras_mimo.fusion.fuse import fusion_layer
from keras_mimo.fusion.multimodal_model import MultimodalModel


def intermediate_fusion(
    encoders, num_classes, trunk=None, head=None, missing=None, name=None
):
    """Builds a model that fuses the features of its modalities by one trunk.

    `fused` is the trunk, and a head on it, on the features of all modalities. A
    modality's own output is the same trunk and head with the features of every
    other modality replaced by a learnt vector, so that its loss trains the
    trunk to do without the others. Encoders run once in a step, the trunk on
    `M + 1` times as many rows; what is served runs it once.

    The model takes a dict of inputs, one per modality, and returns a dict of
    logits, `"fused"` and one per modality, each of shape
    `(batch, num_classes)`: losses need `from_logits=True`. Logits are `float32`
    under a mixed precision policy.

    `keras_mimo.late_fusion` adds up decisions instead. `docs/multimodal.md`
    compares the two on real data.

    Args:
        encoders: Dict of encoders, as in `keras_mimo.late_fusion()`.
        num_classes: Positive integer, the width of the logits.
        trunk: From the features to one tensor of shape `(batch, features)`. A
            layer or model gets them concatenated, in the order of `encoders`; a
            `keras_mimo.layers.GatedFusion` or `AttentionFusion`, a functional
            model of a dict and any other function get the dict of features.
            Defaults to `None`: 128 units with ReLU and a dropout of .2 (our
            choice).
        head: Function of the name `"fused"` that returns a layer (or model)
            from what the trunk returns to logits. Defaults to `None`:
            `keras.layers.Dense(num_classes)`.
        missing: As in `keras_mimo.late_fusion()`: the features of a modality
            that a sample lacks are its learnt vector.
        name: Optional name of the model.

    Returns:
        A functional `MultimodalModel`.

    Raises:
        TypeError: As from `late_fusion()`, or if `trunk` can't be called.
        ValueError: As from `late_fusion()`, or if `trunk` does not return one
            tensor of shape `(batch, features)`.

    Example:

    ```python
    model = keras_mimo.intermediate_fusion(
        {"accel": accel, "gyro": gyro}, num_classes=7
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    model.fit({"accel": x_accel, "gyro": x_gyro}, y)
    ```
    """
    parts = encode(encoders, num_classes, missing)
    num_classes = int(num_classes)
    features = parts.features
    absent = {modality: absent_features(modality) for modality in features}
    if trunk is None:
        trunk = keras.Sequential(
            [
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dropout(0.2),
            ]
        )
    fuse = fusion_layer("trunk", trunk, features, joins=True)
    known = fuse(parts.known_features(absent.get))
    # The head is one layer, whatever it is called on.
    inner = keras.Input(known.shape[1:], dtype=known.dtype)
    head = keras.Model(
        inner,
        to_logits("fused", "logits", inner, num_classes, head, parts.renamed),
        name="fused",
    )
    alone = head(fuse(_each_alone(features, absent)))
    alone = ops.reshape(alone, (-1, len(features), num_classes))
    outputs = {"fused": parts.keep_any(head(known))}
    for place, modality in enumerate(features):
        outputs[modality] = parts.keep_present(modality, alone[:, place])
    return MultimodalModel(parts.inputs, outputs, name=name)


def _each_alone(features, absent):
    """The features with all but one modality absent, in `M` rows a sample.

    In one batch: on a processor it is as fast as `M` calls, by
    `benchmarks/trunk_rows.py`, and elsewhere it launches fewer kernels.
    """
    alone = {}
    for modality, x in features.items():
        vector = absent[modality](x)
        rows = [x if other == modality else vector for other in features]
        alone[modality] = ops.reshape(ops.stack(rows, 1), (-1, x.shape[-1]))
    return alone
