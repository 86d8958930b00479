import dataclasses
import json
import math
import weakref

import keras
import numpy as np

_FILE = "fusion_calibration.json"


@dataclasses.dataclass(eq=False)
class FusionCalibration:
    """How outputs are summed to a fused output, and what it did.

    What `keras_mimo.calibrate_fusion` returns, and `model.calibration` is.
    Printed, it is a table.

    Attributes:
        task: `"classification"`, `"multilabel"` or `"regression"`.
        scales: Dict from the names of the summed outputs to floats.
        bias: Float64 array of shape `(width,)`, or `None`.
        before: Dict of the scores, on the data, of the fused output as the
            model computes it: `"log_loss"`, `"accuracy"` and
            `"calibration_error"` (expected calibration error over 15 bins), or
            `"mean_squared_error"` for a regression.
        after: The same of the calibrated one.
        num_samples: Integer, how many samples the scales were fitted on.
    """

    task: str
    scales: dict
    bias: np.ndarray | None
    before: dict
    after: dict
    num_samples: int

    def reset(self):
        """Gives the model back the fused output that it computes itself.

        Nothing happens where the model has been calibrated again since.
        """
        model = self._model()
        if model is not None and model.calibration is self:
            model.calibration = None

    def __str__(self):
        rows = [(f"{self.num_samples} samples", "before", "after")]
        for name, value in self.before.items():
            after = self.after[name]
            rows.append((name, f"{value:.4g}", f"{after:.4g}"))
        for name, scale in self.scales.items():
            rows.append((f"scale of {name}", "", f"{scale:.4g}"))
        if self.bias is not None:
            size = np.sqrt(np.mean(self.bias**2))
            rows.append(("bias, root mean square", "", f"{size:.4g}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            f"{name.replace('_', ' '):<{widths[0]}}  {before:>{widths[1]}}  "
            f"{after:>{widths[2]}}"
            for name, before, after in rows
        )

    def attach(self, model):
        """Checks that it fits a model, and becomes that model's own."""
        known = set(self.scales) <= set(model.output)
        valid = all(0 <= scale < math.inf for scale in self.scales.values())
        if not (self.scales and known and valid):
            raise ValueError(
                "The scales of a calibration must be finite numbers, none "
                f"below 0, by the names of outputs, {list(model.output)}. "
                f"Received: scales={self.scales}"
            )
        self._model = weakref.ref(model)

    # A model that is gone, like the one of a calibration without.
    _model = staticmethod(lambda: None)

    def save(self, folder):
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        if self.bias is not None:
            values["bias"] = self.bias.tolist()
        (folder / _FILE).write_text(json.dumps(values))

    @classmethod
    def load(cls, folder):
        """The calibration in a folder, or `None`."""
        if not (folder / _FILE).exists():
            return None
        calibration = cls(**json.loads((folder / _FILE).read_text()))
        if calibration.bias is not None:
            calibration.bias = np.array(calibration.bias, dtype="float64")
        return calibration


def summed(calibration, outputs):
    """The calibrated fused output, of a dict of arrays."""
    scales = calibration.scales
    fused = sum(scale * outputs[name] for name, scale in scales.items())
    return fused if calibration.bias is None else fused + calibration.bias


def scaled_sum(calibration, dtype):
    """A function from the dict of outputs to the calibrated fused output.

    It calls layers of Keras' own: of symbolic outputs it makes a graph that
    needs nothing else.

    Args:
        calibration: A `FusionCalibration`.
        dtype: String, the dtype of the result.
    """
    scales = calibration.scales
    # An output without weight need not be computed.
    kept = [name for name in scales if scales[name] > 0] or list(scales)[:1]
    offsets = dict.fromkeys(kept, 0.0)
    if calibration.bias is not None:
        offsets[kept[0]] = calibration.bias.tolist()
    rescale = {
        name: keras.layers.Rescaling(
            scales[name], offsets[name], dtype=dtype, name=f"scaled_{name}"
        )
        for name in kept
    }
    add = keras.layers.Add(dtype=dtype, name="calibrated_fused")

    def fuse(outputs):
        parts = [rescale[name](outputs[name]) for name in kept]
        return add(parts) if len(parts) > 1 else parts[0]

    return fuse
