"""Text backbones of the form of those of keras-hub."""

import keras
from keras import layers
from keras import ops


def backbone(pooled=True, segments=True):
    """Inputs of any length, as BertBackbone and DistilBertBackbone have them.

    Args:
        pooled: Boolean: outputs as of BERT, or a sequence as of DistilBERT.
        segments: Boolean: whether it has `"segment_ids"`.
    """
    names = ["token_ids", *["segment_ids"] * segments, "padding_mask"]
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name) for name in names
    }
    x = layers.Embedding(20, 8)(inputs["token_ids"])
    if segments:
        x = x + layers.Embedding(2, 8)(inputs["segment_ids"])
    mask = ops.expand_dims(inputs["padding_mask"], 1)
    x = layers.MultiHeadAttention(2, 4)(x, x, attention_mask=mask)
    if not pooled:
        return keras.Model(inputs, x)
    first = layers.Dense(8, activation="tanh")(x[:, 0, :])
    return keras.Model(inputs, {"sequence_output": x, "pooled_output": first})
