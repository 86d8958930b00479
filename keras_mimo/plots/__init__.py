"""Pictures of balanced training, in one style. They need matplotlib."""

from keras_mimo.plots.heatmap import conflict_heatmap
from keras_mimo.plots.landscape import loss_landscape
from keras_mimo.plots.pareto import pareto_front
from keras_mimo.plots.recall import recall_by_class
from keras_mimo.plots.training import training_curves
from keras_mimo.plots.training import weights_over_time

__all__ = [
    "conflict_heatmap",
    "loss_landscape",
    "pareto_front",
    "recall_by_class",
    "training_curves",
    "weights_over_time",
]
