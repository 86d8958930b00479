"""Metrics that do not hide the rare classes."""

from keras_mimo.metrics.balanced_accuracy import BalancedAccuracy
from keras_mimo.metrics.macro_f1 import MacroF1
from keras_mimo.metrics.per_class_recall import PerClassRecall
from keras_mimo.metrics.shot_accuracy import ShotAccuracy

__all__ = ["BalancedAccuracy", "MacroF1", "PerClassRecall", "ShotAccuracy"]
