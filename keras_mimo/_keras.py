"""The Keras internals this package leans on, gathered in one place."""

from keras.src.backend import get_keras_mask
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.models.functional import Functional
from keras.src.trainers.compile_utils import CompileLoss
from keras.src.trainers.compile_utils import CompileMetrics
from keras.src.trainers.compile_utils import get_loss

__all__ = [
    "CompileLoss",
    "CompileMetrics",
    "Functional",
    "get_keras_mask",
    "get_loss",
    "unscale_loss_for_distribution",
]
