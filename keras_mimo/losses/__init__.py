"""Losses for data with a long tail of rare classes."""

from keras_mimo.losses.balanced_contrastive import BalancedContrastive
from keras_mimo.losses.balanced_softmax import BalancedSoftmax
from keras_mimo.losses.class_balanced import ClassBalanced
from keras_mimo.losses.ldam import LDAM
from keras_mimo.losses.logit_adjusted import LogitAdjusted

__all__ = [
    "LDAM",
    "BalancedContrastive",
    "BalancedSoftmax",
    "ClassBalanced",
    "LogitAdjusted",
]
