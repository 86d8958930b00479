"""Real multimodal data for examples and tests, never bundled."""

from keras_mimo.datasets.watch import WATCH_CLASSES
from keras_mimo.datasets.watch import load_watch

__all__ = ["WATCH_CLASSES", "load_watch"]
