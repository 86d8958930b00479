"""Modulations: one factor for the encoder of each modality."""

from keras_mimo.modulations.agm import AGM
from keras_mimo.modulations.identifiers import get
from keras_mimo.modulations.identifiers import names
from keras_mimo.modulations.mlb import MLB
from keras_mimo.modulations.modulation import Modulation
from keras_mimo.modulations.mses import MSES
from keras_mimo.modulations.mslr import MSLR
from keras_mimo.modulations.ogm import OGM

__all__ = ["AGM", "MLB", "MSES", "MSLR", "OGM", "Modulation", "get", "names"]
