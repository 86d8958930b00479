from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.combiners.constant import ConstantCombiner
from keras_mimo.combiners.constant import MeanCombiner
from keras_mimo.combiners.constant import SumCombiner
from keras_mimo.combiners.mgda import MGDACombiner
from keras_mimo.combiners.mimo import MIMOCombiner

__all__ = [
    "BalancedGradientCombiner",
    "ConstantCombiner",
    "MGDACombiner",
    "MIMOCombiner",
    "MeanCombiner",
    "SumCombiner",
]
