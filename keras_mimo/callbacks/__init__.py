"""Callbacks for `fit()`: what acts between batches and epochs."""

from keras_mimo.callbacks.backup import Backup
from keras_mimo.callbacks.balance_monitor import BalanceMonitor
from keras_mimo.callbacks.deferred_reweighting import DeferredReweighting
from keras_mimo.callbacks.gradient_blending import GradientBlending
from keras_mimo.callbacks.regroup_classes import RegroupClasses
from keras_mimo.callbacks.relearning import Relearning
from keras_mimo.callbacks.train_teachers import TrainTeachers
from keras_mimo.callbacks.update_prototypes import UpdatePrototypes

__all__ = [
    "Backup",
    "BalanceMonitor",
    "DeferredReweighting",
    "GradientBlending",
    "RegroupClasses",
    "Relearning",
    "TrainTeachers",
    "UpdatePrototypes",
]
