from keras_mimo.fusion.intermediate_fusion import intermediate_fusion
from keras_mimo.fusion.late_fusion import late_fusion
from keras_mimo.fusion.multimodal_model import MultimodalModel

__all__ = ["MultimodalModel", "intermediate_fusion", "late_fusion"]
