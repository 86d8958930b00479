import functools

import keras

from keras_mimo.utils._keras import Functional


def inference_model(model, output=None):
    """Cuts a trained model down to a plain `keras.Model` for inference.

    The result shares the layers and the weights of `model`: whatever `model`
    learns later, it has learned too. It is not compiled and knows nothing of
    `keras_mimo`: it can be saved, loaded and exported where that package is not
    installed. (Layers of your own classes must be importable there, as always
    in Keras.)

    Args:
        model: A functional model, such as `keras_mimo.late_fusion` returns.
        output: String, the name of the output to keep, which becomes the only
            output of the result. Defaults to `None`: the output called
            `"fused"` or, where there is none, all outputs as they are.

    Returns:
        A functional `keras.Model` with the inputs of `model`.

    Raises:
        ValueError: If `model` is not functional, or if it has no such output.

    Example:

    ```python
    model = keras_mimo.late_fusion(encoders, num_classes=7)
    ...
    keras_mimo.inference_model(model).save("fused.keras")
    # In another process, on any backend, without keras_mimo:
    model = keras.models.load_model("fused.keras")
    logits = model.predict({"accel": accel, "gyro": gyro})
    ```
    """
    # Keras gives output names to functional models only.
    if not hasattr(model, "output_names"):
        raise ValueError(
            "`model` must be a functional model, one that was made by "
            "`Model(inputs, outputs)`: no other can be cut. To serve a "
            "subclassed model, export all of it with "
            "`keras.Model.export(model, filepath)`. "
            f"Received: model={model} of type {type(model)}"
        )
    structure = model.output
    if hasattr(model, "inference_outputs"):
        structure = model.inference_outputs()
    if isinstance(structure, dict):
        outputs = dict(structure)
    else:
        outputs = dict(zip(model.output_names, model.outputs, strict=True))
    if output is None:
        kept = outputs.get("fused", structure)
    elif output in outputs:
        kept = outputs[output]
    else:
        raise ValueError(
            f"`output` must name one of the outputs {list(outputs)}. "
            f"Received: output={output!r}"
        )
    return plain_model(model, kept)


def plain_model(model, outputs):
    """A `keras.Model` from the inputs of a functional model to `outputs`."""
    plain = _without_own_layers(
        keras.Model(model.input, outputs, name=model.name)
    )
    # Keras exports no model to ONNX that was never called.
    plain(plain.input)
    return plain


def _without_own_layers(model):
    """A functional model with what our composite layers are made of.

    What a composite layer calls is layers and operations of Keras, which take
    its place in the graph and share its weights.
    """
    if not any(map(_is_composite, model._flatten_layers())):
        return model

    @functools.cache
    def plain(operation):
        if _is_composite(operation):
            return operation.call
        if isinstance(operation, Functional):
            return _without_own_layers(operation)
        return operation

    outputs = model._run_through_graph(model.inputs, plain)
    return keras.Model(model.input, outputs, name=model.name)


def _is_composite(operation):
    return getattr(operation, "composite", False)
