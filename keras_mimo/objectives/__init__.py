"""Objectives: what is balanced, as K losses of a batch."""

from keras_mimo.objectives.class_groups import ClassGroups
from keras_mimo.objectives.modalities import Modalities
from keras_mimo.objectives.objective import Objective
from keras_mimo.objectives.outputs import Outputs
from keras_mimo.objectives.samples import Samples

__all__ = ["ClassGroups", "Modalities", "Objective", "Outputs", "Samples"]
