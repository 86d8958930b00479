"""Balanced training by multi-objective optimisation, for Keras 3."""

from keras_mimo import callbacks
from keras_mimo import combiners
from keras_mimo import datasets
from keras_mimo import diagnostics
from keras_mimo import export
from keras_mimo import layers
from keras_mimo import losses
from keras_mimo import metrics
from keras_mimo import models
from keras_mimo import modulations
from keras_mimo import objectives
from keras_mimo import plots
from keras_mimo.combiners import BalancedGradientCombiner
from keras_mimo.combiners import ConstantCombiner
from keras_mimo.combiners import MeanCombiner
from keras_mimo.combiners import MGDACombiner
from keras_mimo.combiners import MIMOCombiner
from keras_mimo.combiners import SumCombiner
from keras_mimo.compare import compare
from keras_mimo.diagnostics import modality_report
from keras_mimo.export import inference_model
from keras_mimo.fusion import MultimodalModel
from keras_mimo.fusion import add_unimodal_heads
from keras_mimo.fusion import add_unimodal_teachers
from keras_mimo.fusion import alternating_fusion
from keras_mimo.fusion import calibrate_fusion
from keras_mimo.fusion import intermediate_fusion
from keras_mimo.fusion import late_fusion
from keras_mimo.fusion import mask_modalities
from keras_mimo.fusion import unimodal_ensemble
from keras_mimo.gbg import gbg
from keras_mimo.model import BalancedModel
from keras_mimo.objectives import ClassGroups
from keras_mimo.objectives import Modalities
from keras_mimo.objectives import Outputs
from keras_mimo.version import __version__

__all__ = [
    "BalancedGradientCombiner",
    "BalancedModel",
    "ClassGroups",
    "ConstantCombiner",
    "MGDACombiner",
    "MIMOCombiner",
    "MeanCombiner",
    "Modalities",
    "MultimodalModel",
    "Outputs",
    "SumCombiner",
    "__version__",
    "add_unimodal_heads",
    "add_unimodal_teachers",
    "alternating_fusion",
    "calibrate_fusion",
    "callbacks",
    "combiners",
    "compare",
    "datasets",
    "diagnostics",
    "export",
    "gbg",
    "inference_model",
    "intermediate_fusion",
    "late_fusion",
    "layers",
    "losses",
    "mask_modalities",
    "metrics",
    "modality_report",
    "models",
    "modulations",
    "objectives",
    "plots",
    "unimodal_ensemble",
]
