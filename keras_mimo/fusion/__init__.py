from keras_mimo.fusion.late_fusion import late_fusion
from keras_mimo.fusion.multimodal_model import MultimodalModel

__all__ = ["MultimodalModel", "late_fusion"]
