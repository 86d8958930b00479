"""How encoders become parts of one functional model."""

import keras

from keras_mimo.utils.structures import map_with_path


def encoder_inputs(modality, encoder):
    """New inputs for an encoder, in the structure of its own.

    Raises:
        ValueError: If the encoder does not know the shape of its input.
    """
    # Keras gives output names to functional models only.
    if hasattr(encoder, "output_names"):
        structure = encoder.input
    elif isinstance(encoder, keras.Sequential) and encoder.built:
        structure = encoder.inputs[0]
    else:
        config = encoder.get_build_config() if encoder.built else None
        shape = (config or {}).get("input_shape")
        if not is_shape(shape):
            raise ValueError(
                "An encoder must know the shape of its input. Wrap it: "
                "`keras.Sequential([keras.Input(shape), encoder])`, or, if it "
                "takes several inputs, `keras.Model(inputs, encoder(inputs))`. "
                f"Received: encoders[{modality!r}]={encoder}, "
                f"of which the input shape is {shape}"
            )
        structure = keras.KerasTensor(shape, dtype=keras.config.floatx())
    return new_inputs(structure, modality)


def new_inputs(structure, name=None):
    """New inputs like the tensors of `structure`, named by their places."""

    def new_input(path, x):
        parts = path if name is None else (name, *path)
        return keras.Input(
            batch_shape=(None, *x.shape[1:]),
            dtype=x.dtype,
            sparse=x.sparse,
            name="_".join(map(str, parts)) or None,
        )

    return map_with_path(new_input, structure)


class Renamed:
    """Calls layers under other names.

    The layers of a functional model need unique names, and those that users
    choose often equal that of the modality, which its input must have.
    """

    def __init__(self):
        self._models = {}

    def __call__(self, name, layer, x):
        """`layer(x)`, by a model that has the name that was given first."""
        if id(layer) not in self._models:
            inner = new_inputs(x)
            self._models[id(layer)] = keras.Model(
                inner, layer(inner), name=name
            )
        return self._models[id(layer)](x)


def is_shape(shape):
    return isinstance(shape, (tuple, list)) and all(
        size is None or isinstance(size, int) for size in shape
    )
