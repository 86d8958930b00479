"""What each modality contributes to a trained model."""

from keras_mimo.diagnostics.contributions import Contributions
from keras_mimo.diagnostics.contributions import contributions
from keras_mimo.diagnostics.report import ModalityReport
from keras_mimo.diagnostics.report import modality_report

__all__ = [
    "Contributions",
    "ModalityReport",
    "contributions",
    "modality_report",
]
