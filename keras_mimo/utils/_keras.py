"""The Keras internals this package leans on, gathered in one place."""

from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.losses.loss import scale_loss_for_distribution
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.models.functional import Functional
from keras.src.models.functional import functional_like_constructor
from keras.src.models.model import functional_init_arguments
from keras.src.trainers.compile_utils import CompileLoss
from keras.src.trainers.compile_utils import CompileMetrics
from keras.src.trainers.compile_utils import get_loss

__all__ = [
    "CompileLoss",
    "CompileMetrics",
    "Functional",
    "functional_init_arguments",
    "functional_like_constructor",
    "get_keras_mask",
    "get_loss",
    "in_stateless_scope",
    "loss_options",
    "scale_loss_for_distribution",
    "set_keras_mask",
    "unscale_loss_for_distribution",
]


def loss_options(loss):
    """The options of the function that a loss wraps."""
    return getattr(loss, "_fn_kwargs", {})


def without_reduction(loss):
    """A `keras.losses.Loss` that keeps one value for each sample."""
    # copy.copy() goes through the config, which not every loss has.
    unreduced = object.__new__(type(loss))
    unreduced.__dict__.update(loss.__dict__, reduction=None)
    return unreduced
