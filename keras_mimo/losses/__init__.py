"""Losses for data with a long tail of rare classes, and for modalities."""

from keras_mimo.losses.balanced_contrastive import BalancedContrastive
from keras_mimo.losses.balanced_softmax import BalancedSoftmax
from keras_mimo.losses.class_balanced import ClassBalanced
from keras_mimo.losses.ldam import LDAM
from keras_mimo.losses.logit_adjusted import LogitAdjusted
from keras_mimo.losses.prototype_rebalancing import PrototypeRebalancing

__all__ = [
    "LDAM",
    "BalancedContrastive",
    "BalancedSoftmax",
    "ClassBalanced",
    "LogitAdjusted",
    "PrototypeRebalancing",
]
