"""Layers for classification with a long tail of rare classes."""

from keras_mimo.layers.class_prototypes import ClassPrototypes
from keras_mimo.layers.contrastive_head import ContrastiveHead
from keras_mimo.layers.cosine_classifier import CosineClassifier
from keras_mimo.layers.unit_projection import UnitProjection

__all__ = [
    "ClassPrototypes",
    "ContrastiveHead",
    "CosineClassifier",
    "UnitProjection",
]
