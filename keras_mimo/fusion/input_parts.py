"""Which part of the inputs of a model is which modality."""


def input_parts(modalities, inputs):
    """Resolves the `modalities` of `mask_modalities()`.

    Args:
        modalities: Dict from names to an input's name, a pair of one and a
            slice, or a list of these.
        inputs: Dict from the names of the inputs to symbolic tensors.

    Returns:
        List of `(modality, input name, channels)`, where `channels` is a pair
        `(start, stop)`, or `None` for all.

    Raises:
        TypeError: If a value is none of these.
        ValueError: If an input or its channels are not there, or belong to two
            modalities.
    """
    parts = []
    for modality, given in modalities.items():
        for part in given if isinstance(given, list) else [given]:
            input_name, channels = _part(modality, part, inputs)
            for other, taken, others in parts:
                if taken == input_name and _overlap(channels, others):
                    raise ValueError(
                        "`modalities` must not share an input, or channels of "
                        f"one. Received: {modalities}, in which {other!r} and "
                        f"{modality!r} share {input_name!r}"
                    )
            parts.append((modality, input_name, channels))
    return parts


def _part(modality, part, inputs):
    channels = None
    input_name = part
    if isinstance(part, tuple) and len(part) == 2:
        input_name, channels = part
    if not isinstance(input_name, str) or not isinstance(
        channels, (slice, type(None))
    ):
        raise TypeError(
            "`modalities` must hold names of inputs, pairs of a name and a "
            "slice, or lists of these. "
            f"Received: modalities[{modality!r}] with {part!r}"
        )
    if input_name not in inputs:
        raise ValueError(
            f"`modalities` must name inputs of `model`, {list(inputs)}. "
            f"Received: modalities[{modality!r}] with {input_name!r}"
        )
    if channels is not None:
        channels = _bounds(modality, input_name, channels, inputs[input_name])
    return input_name, channels


def _bounds(modality, input_name, channels, x):
    shape = tuple(x.shape)
    width = shape[-1] if len(shape) > 1 else None
    chosen = () if width is None else range(width)[channels]
    if not chosen or chosen.step != 1 or (channels.stop or 0) > width:
        raise ValueError(
            "A slice in `modalities` must be one of neighbours on the last "
            "axis of its input. Received: "
            f"modalities[{modality!r}]=({input_name!r}, {channels}) for an "
            f"input of shape {shape}"
        )
    return chosen.start, chosen.stop


def _overlap(one, other):
    if one is None or other is None:
        return True
    return one[0] < other[1] and other[0] < one[1]
