from keras_mimo.callbacks.regroup_classes import RegroupClasses

__all__ = ["RegroupClasses"]
