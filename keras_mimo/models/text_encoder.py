import keras
from keras import ops

from keras_mimo.models.attention import attend
from keras_mimo.models.attention import check_dropout
from keras_mimo.models.attention import check_width
from keras_mimo.models.attention import masked_mean
from keras_mimo.utils.arguments import check_units


def text_encoder(
    vocabulary_size=None,
    length=64,
    width=64,
    layers=2,
    heads=4,
    dropout=0.1,
    backbone=None,
    padding=0,
    name=None,
):
    """An encoder of texts, from token ids of one length.

    One input, from which it makes the mask of what is padding: so it is saved,
    read on every backend and exported like any other model. A tokenizer makes
    the ids; the guide on several modalities shows how.

    Args:
        vocabulary_size: Positive integer, how many ids there are, with that of
            padding. Not used with `backbone`. Defaults to `None`.
        length: Positive integer, the length to which texts are cut or padded.
            Defaults to `64`.
        width: As for `keras_mimo.models.Transformer`, like `layers`, `heads`
            and `dropout`; none is used with `backbone`. Defaults to `64`.
        layers: Defaults to `2`.
        heads: Defaults to `4`.
        dropout: Defaults to `0.1`.
        backbone: A text backbone of keras-hub (called keras-nlp once), such as
            `keras_hub.models.BertBackbone.from_preset(...)`, or any functional
            model with the dict of inputs `"token_ids"`, `"padding_mask"` and,
            where it has them, `"segment_ids"`, which are zeros. It keeps its
            weights. Its features are its `"pooled_output"`, or, where it has
            none, the mean of its sequence over what is not padding.
            `pip install keras-mimo[hub]`. Defaults to `None`: embeddings and
            self-attention, trained from scratch.
        padding: Integer, the id that stands for no token. It is 1 for RoBERTa
            and its kin. Defaults to `0`.
        name: Optional name of the model.

    Returns:
        `keras.Model` from `int32` token ids `(batch, length)` to features
        `(batch, width)`. Without a backbone those of a text of padding only are
        zeros.

    Raises:
        TypeError: If a size is no integer, or `backbone` no model.
        ValueError: If an argument is out of range, if neither or both of
            `vocabulary_size` and `backbone` are given, or if `backbone` has
            other inputs or outputs.

    Example:

    ```python
    text = keras_mimo.models.text_encoder(vocabulary_size=8000, length=64)

    # By keras-hub, from a folder or by the name of a preset.
    bert = keras_hub.models.BertBackbone.from_preset("bert_tiny_en_uncased")
    text = keras_mimo.models.text_encoder(backbone=bert, length=64)
    ```
    """
    length = check_units("length", length)
    if (vocabulary_size is None) == (backbone is None):
        raise ValueError(
            "Give either `vocabulary_size` or `backbone`. Received: "
            f"vocabulary_size={vocabulary_size}, backbone={backbone}"
        )
    ids = keras.Input((length,), dtype="int32")
    present = ops.not_equal(ids, padding)
    if backbone is not None:
        x = _features(backbone, ids, present)
        return keras.Model(ids, x, name=name or "text_encoder")

    vocabulary_size = check_units("vocabulary_size", vocabulary_size)
    width, heads = check_width(width, heads)
    layers = check_units("layers", layers)
    check_dropout(dropout)
    x = keras.layers.Embedding(vocabulary_size, width, name="tokens")(ids)
    x = attend(x, present, layers, heads, dropout)
    return keras.Model(ids, x, name=name or "text_encoder")


def _features(backbone, ids, present):
    if not isinstance(backbone, keras.Model):
        raise TypeError(
            "`backbone` must be a Keras model. "
            f"Received: backbone={backbone} of type {type(backbone)}"
        )
    given = {
        "token_ids": ids,
        "padding_mask": ops.cast(present, "int32"),
        "segment_ids": ops.zeros_like(ids),
    }
    # Keras gives output names to functional models only.
    inputs = backbone.input if hasattr(backbone, "output_names") else None
    names = list(inputs) if isinstance(inputs, dict) else []
    if "token_ids" not in names or not set(names) <= set(given):
        raise ValueError(
            "`backbone` must be a functional model with a dict of inputs: "
            '"token_ids" and, where it has them, "padding_mask" and '
            f'"segment_ids". Received: backbone with the inputs {inputs}'
        )
    outputs = backbone({name: given[name] for name in names})
    if isinstance(outputs, dict):
        if "pooled_output" in outputs:
            return outputs["pooled_output"]
        outputs = outputs.get("sequence_output")
    if len(getattr(outputs, "shape", ())) != 3:
        raise ValueError(
            '`backbone` must have the output "pooled_output", or one that is a '
            "sequence of shape (batch, length, width). "
            f"Received: backbone with the outputs {backbone.output}"
        )
    return masked_mean(outputs, present)
