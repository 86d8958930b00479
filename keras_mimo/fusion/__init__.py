from keras_mimo.fusion.alternating_fusion import alternating_fusion
from keras_mimo.fusion.calibration import calibrate_fusion
from keras_mimo.fusion.fusion_calibration import FusionCalibration
from keras_mimo.fusion.intermediate_fusion import intermediate_fusion
from keras_mimo.fusion.late_fusion import late_fusion
from keras_mimo.fusion.masked import mask_modalities
from keras_mimo.fusion.multimodal_model import MultimodalModel
from keras_mimo.fusion.unimodal_ensemble import unimodal_ensemble
from keras_mimo.fusion.unimodal_heads import add_unimodal_heads
from keras_mimo.fusion.unimodal_teachers import add_unimodal_teachers

__all__ = [
    "FusionCalibration",
    "MultimodalModel",
    "add_unimodal_heads",
    "add_unimodal_teachers",
    "alternating_fusion",
    "calibrate_fusion",
    "intermediate_fusion",
    "late_fusion",
    "mask_modalities",
    "unimodal_ensemble",
]
