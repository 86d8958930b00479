import functools
import inspect
from pathlib import Path

import keras

from keras_mimo.export import export_model
from keras_mimo.export.inference_model import plain_model
from keras_mimo.fusion.dependencies import calls
from keras_mimo.fusion.dependencies import layer_inputs
from keras_mimo.fusion.dependencies import tensor_inputs
from keras_mimo.fusion.dependencies import used_inputs_of
from keras_mimo.fusion.fitted_on import FittedOn
from keras_mimo.fusion.fusion_calibration import FusionCalibration
from keras_mimo.fusion.fusion_calibration import scaled_sum
from keras_mimo.fusion.missing import check_samples
from keras_mimo.model import FunctionalBalancedModel
from keras_mimo.objectives import Modalities
from keras_mimo.utils._keras import get_keras_mask
from keras_mimo.utils._keras import set_keras_mask


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
        given = inspect.signature(super().fit).bind(x, *args, **kwargs)
        fitted_on = FittedOn(x, given.arguments.get("validation_split"))
        # Not tracked, like all that is no part of the graph.
        object.__setattr__(self, "_fitted_on", fitted_on)
        return super().fit(x, *args, **kwargs)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, x=None, *args, **kwargs):
        check_samples(self, x)
        return super().evaluate(x, *args, **kwargs)

    @functools.wraps(keras.Model.predict)
    def predict(self, x, *args, **kwargs):
        check_samples(self, x)
        return super().predict(x, *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training, mask=mask)
        if training or self.calibration is None:
            return outputs
        calibrated = self._calibrated(outputs)
        # Of the samples, not of the modalities that happen to be summed.
        mask = get_keras_mask(outputs["fused"])
        set_keras_mask(calibrated["fused"], mask)
        return calibrated

    @property
    def calibration(self):
        """The `FusionCalibration` of the fused output, or `None`.

        `keras_mimo.calibrate_fusion` sets it. Where there is one, the fused
        output is the calibrated sum in all but training: in `predict()`,
        `evaluate()`, `export()` and `keras_mimo.inference_model`. It is saved
        in `.keras` files, but not with the weights, and not cloned.
        """
        return self._calibration

    @calibration.setter
    def calibration(self, calibration):
        if not isinstance(calibration, FusionCalibration | None):
            raise TypeError(
                "`calibration` must be a `FusionCalibration` or None. "
                f"Received: calibration={calibration} of type "
                f"{type(calibration)}"
            )
        if calibration is self._calibration:
            return
        fuse = None
        if calibration is not None:
            calibration.attach(self)
            fuse = scaled_sum(calibration, self.output["fused"].dtype)
        object.__setattr__(self, "_calibration", calibration)
        object.__setattr__(self, "_fuse", fuse)
        # They were traced with the fused output that was.
        self.test_function = None
        self.predict_function = None

    _calibration = None
    _fitted_on = FittedOn(None)

    def inference_outputs(self):
        """The symbolic outputs as they are in inference."""
        if self.calibration is None:
            return self.output
        return self._calibrated(self.output)

    def _calibrated(self, outputs):
        return {**outputs, "fused": self._fuse(outputs)}

    def save_assets(self, folder):
        if self.calibration is not None:
            self.calibration.save(Path(folder))

    def load_assets(self, folder):
        if folder is not None:
            self.calibration = FusionCalibration.load(Path(folder))

    @property
    def encoder_variables(self):
        """Trainable variables of the encoder of each modality.

        A dict from the name of a modality to a list of variables: the `blocks`
        of `compile()` that treat each encoder on its own.

        An encoder is the layer called `<modality>_encoder`, as in a
        `late_fusion()` model, where modalities that share an encoder have one
        entry. Where the outputs are not all computed from such layers, an
        encoder is all layers that serve both the modality's own output and the
        fused one, depend on inputs of that modality alone, and belong to no
        other modality. A modality without has no entry.
        """
        named = self._named_encoders()
        if named is None:
            return self.branch_variables
        return {m: layer.trainable_variables for m, layer in named.items()}

    def _named_encoders(self):
        """The encoder of each modality by its name, or `None`."""
        modalities = [name for name in self.output if name != "fused"]
        named = {
            layer.name.removesuffix("_encoder"): layer
            for layer in self.layers
            if layer.name.endswith("_encoder")
        }
        named = {name: named[name] for name in modalities if name in named}
        encoders = set(named.values())
        if all(
            encoders & {node.operation for node in calls([self.output[name]])}
            for name in modalities
        ):
            return named
        return None

    @property
    def branch_variables(self):
        """Trainable variables of the branch of each modality.

        As `encoder_variables`, but a branch goes on to where modalities meet:
        the heads of `late_fusion(fusion="sum")` are part of it.
        """
        inputs = self.modality_inputs
        return _branch_variables(
            layer_inputs(self.output["fused"], self.inputs),
            {m: layer_inputs(self.output[m], self.inputs) for m in inputs},
            inputs,
        )

    @property
    def modality_inputs(self):
        """Names of the inputs that the output of each modality depends on.

        A dict from the name of a modality to a set of strings.
        """
        named = self._named_encoders() or {}
        fused = self.output["fused"]
        return {
            name: frozenset(
                used_inputs_of(named[name], fused, self.inputs)
                if name in named
                else tensor_inputs(output, self.inputs)
            )
            for name, output in self.output.items()
            if name != "fused"
        }

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
        kept = self.inference_outputs()
        if outputs != "all":
            if outputs not in kept:
                raise ValueError(
                    f'`outputs` must be "all" or one of {list(kept)}. '
                    f"Received: outputs={outputs!r}"
                )
            kept = {outputs: kept[outputs]}
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


def _branch_variables(fused, own, inputs):
    """Of the layers of a branch, by what the layers depend on.

    Args:
        fused: Dict from the layers before the fused output to the inputs on
            which each depends.
        own: The same before the output of each modality, by its name.
        inputs: Dict from modalities to the inputs of their outputs.

    Returns:
        Dict from the names of modalities to lists of variables.
    """
    branches = {}
    for modality, layers in own.items():
        branches[modality] = [
            layer
            for layer, given in fused.items()
            if given and given <= inputs[modality] and layers.get(layer)
        ]
    uses = [layer for layers in branches.values() for layer in layers]
    variables = {
        modality: [
            variable
            for layer in layers
            if uses.count(layer) == 1
            for variable in getattr(layer, "trainable_variables", ())
        ]
        for modality, layers in branches.items()
    }
    return {name: found for name, found in variables.items() if found}
