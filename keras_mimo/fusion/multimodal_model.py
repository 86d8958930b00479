import functools

import keras

from keras_mimo.export import export_model
from keras_mimo.export.inference_model import plain_model
from keras_mimo.fusion.missing import check_samples
from keras_mimo.model import FunctionalBalancedModel
from keras_mimo.objectives import Modalities


@keras.saving.register_keras_serializable(package="keras_mimo")
class MultimodalModel(FunctionalBalancedModel):
    """A functional `BalancedModel`: a fused output and one per modality.

    Its outputs are a dict, `"fused"` and the names of the modalities, and all
    of them are scored against the same label: `fit(x, y)` takes a single `y`.
    Compiled without a combiner it is trained jointly, on the fused loss alone.

    `keras_mimo.late_fusion` builds one from a dict of encoders. Another
    architecture can be built as any functional model is; a subclassed model is
    a `BalancedModel` compiled with `objectives=keras_mimo.Modalities()`.

    Example:

    ```python
    inputs = {
        "audio": keras.Input((64,), name="audio"),
        "image": keras.Input((64,), name="image"),
    }
    gated = keras.layers.Multiply()([inputs["audio"], inputs["image"]])
    outputs = {
        "fused": keras.layers.Dense(10)(gated),
        "audio": keras.layers.Dense(10)(inputs["audio"]),
        "image": keras.layers.Dense(10)(inputs["image"]),
    }
    model = keras_mimo.MultimodalModel(inputs, outputs)
    ```
    """

    def default_objectives(self):
        return Modalities()

    @functools.wraps(keras.Model.fit)
    def fit(self, x=None, *args, **kwargs):
        check_samples(self, x)
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple):
            check_samples(self, validation[0])
        return super().fit(x, *args, **kwargs)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, *args, **kwargs):
        check_samples(self, x)
        return super().evaluate(x, *args, **kwargs)

    @functools.wraps(keras.Model.predict)
    def predict(self, x, *args, **kwargs):
        check_samples(self, x)
        return super().predict(x, *args, **kwargs)

    @property
    def encoder_variables(self):
        """Trainable variables of the encoders of a `late_fusion()` model.

        A dict from the name of a modality to a list of variables: the `blocks`
        of `compile()` that treat each encoder on its own. Modalities that share
        an encoder have one entry.
        """
        encoders = {
            layer.name.removesuffix("_encoder"): layer.trainable_variables
            for layer in self.layers
            if layer.name.endswith("_encoder")
        }
        modalities = [name for name in self.output if name in encoders]
        return {name: encoders[name] for name in modalities}

    def export(
        self,
        filepath,
        format="tf_saved_model",
        verbose=None,
        input_signature=None,
        outputs="fused",
        **kwargs,
    ):
        """Exports the fused output, as `keras.Model.export()` would all.

        The outputs of the modalities serve training and are left out. What is
        exported takes inputs, and returns outputs, by their names. (Not so the
        outputs of ONNX from PyTorch, which have numbers. From the others, an
        output with the name of an input is called `<name>_output`.)

        Args:
            filepath: As in `BalancedModel.export()`, like the arguments up to
                `input_signature`.
            format: As there.
            verbose: As there.
            input_signature: As there.
            outputs: `"all"` or the name of the output to export. Defaults to
                `"fused"`.
            **kwargs: As in Keras.

        Raises:
            ValueError: If `outputs` is no such name.
        """
        kept = self.output
        if outputs != "all":
            if outputs not in self.output:
                raise ValueError(
                    f'`outputs` must be "all" or one of {list(self.output)}. '
                    f"Received: outputs={outputs!r}"
                )
            kept = {outputs: self.output[outputs]}
        if format == "onnx":
            # Names are unique there, also among inputs and outputs.
            taken = {tensor.name for tensor in self.inputs}
            kept = {
                f"{name}_output" if name in taken else name: output
                for name, output in kept.items()
            }
        export_model(
            plain_model(self, kept),
            filepath,
            format=format,
            verbose=verbose,
            input_signature=input_signature,
            **kwargs,
        )
