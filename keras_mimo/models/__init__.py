"""Networks of the papers' benchmarks: encoders, and one that classifies."""

from keras_mimo.models.frames import frames
from keras_mimo.models.resnet18 import ResNet18
from keras_mimo.models.resnet32 import resnet32
from keras_mimo.models.spectrogram import spectrogram
from keras_mimo.models.text_encoder import text_encoder
from keras_mimo.models.transformer import Transformer

__all__ = [
    "ResNet18",
    "Transformer",
    "frames",
    "resnet32",
    "spectrogram",
    "text_encoder",
]
