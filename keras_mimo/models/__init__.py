"""Networks of the papers' benchmarks."""

from keras_mimo.models.resnet32 import resnet32

__all__ = ["resnet32"]
