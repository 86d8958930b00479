"""Layers for rare classes, and for modalities that fuse or are absent."""

from keras_mimo.layers.absent_features import AbsentFeatures
from keras_mimo.layers.absent_input import AbsentInput
from keras_mimo.layers.alternating_head import AlternatingHead
from keras_mimo.layers.attention_fusion import AttentionFusion
from keras_mimo.layers.class_prototypes import ClassPrototypes
from keras_mimo.layers.contrastive_head import ContrastiveHead
from keras_mimo.layers.cosine_classifier import CosineClassifier
from keras_mimo.layers.feature_fusion import FeatureFusion
from keras_mimo.layers.gated_fusion import GatedFusion
from keras_mimo.layers.keep_present import KeepPresent
from keras_mimo.layers.mean_prediction import MeanPrediction
from keras_mimo.layers.modality_dropout import ModalityDropout
from keras_mimo.layers.on_the_fly_dropout import OnTheFlyDropout
from keras_mimo.layers.prototype_classifier import PrototypeClassifier
from keras_mimo.layers.unimodal_teacher import UnimodalTeacher
from keras_mimo.layers.unit_projection import UnitProjection

__all__ = [
    "AbsentFeatures",
    "AbsentInput",
    "AlternatingHead",
    "AttentionFusion",
    "ClassPrototypes",
    "ContrastiveHead",
    "CosineClassifier",
    "FeatureFusion",
    "GatedFusion",
    "KeepPresent",
    "MeanPrediction",
    "ModalityDropout",
    "OnTheFlyDropout",
    "PrototypeClassifier",
    "UnimodalTeacher",
    "UnitProjection",
]
