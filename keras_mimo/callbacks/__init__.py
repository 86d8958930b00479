from keras_mimo.callbacks.deferred_reweighting import DeferredReweighting
from keras_mimo.callbacks.regroup_classes import RegroupClasses

__all__ = ["DeferredReweighting", "RegroupClasses"]
