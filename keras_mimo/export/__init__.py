"""Models to serve, which need nothing of this package."""

from keras_mimo.export.formats import export_model
from keras_mimo.export.inference_model import inference_model

__all__ = ["export_model", "inference_model"]
