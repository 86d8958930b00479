from keras_mimo.objectives.modalities import Modalities
from keras_mimo.objectives.objective import Objective
from keras_mimo.objectives.outputs import Outputs

__all__ = ["Modalities", "Objective", "Outputs"]
