from keras_mimo.diagnostics.contributions import Contributions
from keras_mimo.diagnostics.contributions import contributions

__all__ = ["Contributions", "contributions"]
