from keras_mimo.combiners.combiner import BalancedGradientCombiner


class MGDACombiner(BalancedGradientCombiner):
    needs = "gramian"
