"""Methods side by side on your data, with what the seeds explain."""

from keras_mimo.compare.comparing import compare
from keras_mimo.compare.comparison import Comparison
from keras_mimo.compare.comparison import MethodRuns

__all__ = ["Comparison", "MethodRuns", "compare"]
