"""Combiners: how losses and gradients become one update."""

from keras_mimo.combiners.aligned_mtl import AlignedMTLCombiner
from keras_mimo.combiners.cagrad import CAGradCombiner
from keras_mimo.combiners.combiner import BalancedGradientCombiner
from keras_mimo.combiners.config import ConFIGCombiner
from keras_mimo.combiners.constant import ConstantCombiner
from keras_mimo.combiners.constant import MeanCombiner
from keras_mimo.combiners.constant import SumCombiner
from keras_mimo.combiners.coordinates import CoordinateCombiner
from keras_mimo.combiners.dualproj import DualProjCombiner
from keras_mimo.combiners.dwa import DWACombiner
from keras_mimo.combiners.every_n import EveryN
from keras_mimo.combiners.excess_mtl import ExcessMTLCombiner
from keras_mimo.combiners.fairgrad import FairGradCombiner
from keras_mimo.combiners.famo import FAMOCombiner
from keras_mimo.combiners.gblending import GBlendingCombiner
from keras_mimo.combiners.gls import GLSCombiner
from keras_mimo.combiners.graddrop import GradDropCombiner
from keras_mimo.combiners.gradnorm import GradNormCombiner
from keras_mimo.combiners.gradvac import GradVacCombiner
from keras_mimo.combiners.identifiers import get
from keras_mimo.combiners.imtlg import IMTLGCombiner
from keras_mimo.combiners.imtll import IMTLLCombiner
from keras_mimo.combiners.krum import KrumCombiner
from keras_mimo.combiners.mgda import MGDACombiner
from keras_mimo.combiners.mimo import MIMOCombiner
from keras_mimo.combiners.mmpareto import MMParetoCombiner
from keras_mimo.combiners.moco import MoCo
from keras_mimo.combiners.nash_mtl import NashMTLCombiner
from keras_mimo.combiners.pcd import PCDCombiner
from keras_mimo.combiners.pcgrad import PCGradCombiner
from keras_mimo.combiners.rescaled import Rescaled
from keras_mimo.combiners.rlw import RLWCombiner
from keras_mimo.combiners.rows import RowCombiner
from keras_mimo.combiners.smoothed import Smoothed
from keras_mimo.combiners.stch import STCHCombiner
from keras_mimo.combiners.trimmed_mean import TrimmedMeanCombiner
from keras_mimo.combiners.uncertainty import UncertaintyCombiner
from keras_mimo.combiners.upgrad import UPGradCombiner

__all__ = [
    "AlignedMTLCombiner",
    "BalancedGradientCombiner",
    "CAGradCombiner",
    "ConFIGCombiner",
    "ConstantCombiner",
    "CoordinateCombiner",
    "DWACombiner",
    "DualProjCombiner",
    "EveryN",
    "ExcessMTLCombiner",
    "FAMOCombiner",
    "FairGradCombiner",
    "GBlendingCombiner",
    "GLSCombiner",
    "GradDropCombiner",
    "GradNormCombiner",
    "GradVacCombiner",
    "IMTLGCombiner",
    "IMTLLCombiner",
    "KrumCombiner",
    "MGDACombiner",
    "MIMOCombiner",
    "MMParetoCombiner",
    "MeanCombiner",
    "MoCo",
    "NashMTLCombiner",
    "PCDCombiner",
    "PCGradCombiner",
    "RLWCombiner",
    "Rescaled",
    "RowCombiner",
    "STCHCombiner",
    "Smoothed",
    "SumCombiner",
    "TrimmedMeanCombiner",
    "UPGradCombiner",
    "UncertaintyCombiner",
    "get",
]
