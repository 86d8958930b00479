import keras

from keras_mimo.fusion.encoded import absent_features
from keras_mimo.fusion.encoded import encode
from keras_mimo.fusion.encoded import to_logits
from keras_mimo.fusion.fuse import fusion_layer
from keras_mimo.fusion.multimodal_model import MultimodalModel


def late_fusion(
    encoders, num_classes, fusion="sum", head=None, missing=None, name=None
):
    """Builds a model that encodes each modality and fuses at the end.

    The model takes a dict of inputs, one per modality, and returns a dict of
    logits, `"fused"` and one per modality, each of shape
    `(batch, num_classes)`. There is no activation at the end, so that losses
    need `from_logits=True`. For regression, `num_classes` is the number of
    values to predict; for multi-label classification, that of labels.

    Logits are `float32` under a mixed precision policy.

    The layers on the way are called `<modality>_encoder` and
    `<modality>_head`, whatever names the encoders have of their own.

    Args:
        encoders: Dict from the name of a modality (ASCII letters, digits and
            underscores, a letter first, not `"fused"`) to a Keras model or
            layer that turns it into features of shape `(batch, features)`. At
            least two. Encoders keep the weights they have. They must know the
            shape of their input: a functional model does, and so does a
            `keras.Sequential` that starts with `keras.Input`. The input of a
            functional model may be a dict or a list of tensors; the modality's
            input then has the same structure. The same encoder under two names
            is shared.
        num_classes: Positive integer, the width of the logits.
        fusion: `"sum"`: the fused logits are the sum of the logits of the
            modalities. `"concat"`: the fused logits have a head of their own,
            on the concatenated features. A layer, such as
            `keras_mimo.layers.GatedFusion`, or a function: they have a head on
            what it makes of the dict of features, a tensor of shape
            `(batch, features)`. Defaults to `"sum"`.
        head: Function of the name of an output that returns a layer (or model)
            from features to logits. Sum fusion asks for the modalities, any
            other for `"fused"` too. Defaults to `None`:
            `keras.layers.Dense(num_classes)` for all.
        missing: What stands for a modality that a sample lacks: a dict from
            modalities to a number, to `None` for NaN, or to a function of the
            input that returns a boolean tensor of shape `(batch,)`, true where
            it is missing. By a number, a modality is missing where all entries
            of its input equal it. `True` stands for NaN in every modality.
            The logits of a missing modality are zeros, so that a sum leaves
            them out; any other fusion gets a learnt vector for its features,
            and its loss and metrics have no part for that sample, as those of
            the fused output for a sample that lacks all. Defaults to `None`:
            no sample lacks a modality.
        name: Optional name of the model.

    Returns:
        A functional `MultimodalModel`.

    Raises:
        TypeError: If `encoders` is no dict, or if an encoder or what `head`
            returns is no Keras layer.
        ValueError: If `encoders` has fewer than two entries or a name that
            can't be used, if an encoder has no known input shape or does not
            give features of shape `(batch, features)`, if a head does not give
            `(batch, num_classes)`, or if `fusion` or `num_classes` is invalid.

    Example:

    ```python
    def encoder(filters):
        return keras.Sequential(
            [
                keras.Input((128, 3)),
                keras.layers.Conv1D(filters, 9, activation="relu"),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )

    model = keras_mimo.late_fusion(
        {"accel": encoder(32), "gyro": encoder(32)}, num_classes=7
    )
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        combiner=keras_mimo.MIMOCombiner(),
    )
    model.fit({"accel": accel, "gyro": gyro}, y)
    ```
    """
    parts = encode(encoders, num_classes, missing)
    # Keras layers refuse the integers of NumPy, such as `max(y) + 1`.
    num_classes = int(num_classes)
    named = isinstance(fusion, str) and fusion in ("sum", "concat")
    if not named and not callable(fusion):
        raise ValueError(
            '`fusion` must be "sum", "concat", a Keras layer or a function of '
            f"the dict of features. Received: fusion={fusion!r}"
        )

    def logits(output, layer_name, x):
        return to_logits(
            output, layer_name, x, num_classes, head, parts.renamed
        )

    unimodal = {
        modality: parts.keep_present(
            modality, logits(modality, f"{modality}_head", x)
        )
        for modality, x in parts.features.items()
    }
    if fusion == "sum":
        add = keras.layers.Add(dtype=keras.config.floatx(), name="fused")
        fused = add(list(unimodal.values()))
    else:
        known = parts.known_features(absent_features)
        if fusion == "concat":
            join = keras.layers.Concatenate(name="fused_features")
            joined = join(list(known.values()))
        else:
            fuse = fusion_layer("fusion", fusion, known, joins=False)
            joined = fuse(known)
        fused = parts.keep_any(logits("fused", "fused", joined))
    return MultimodalModel(
        parts.inputs, {"fused": fused, **unimodal}, name=name
    )
