"""Classes into groups, by the gradients of their losses."""

from keras_mimo.grouping.affinity import class_affinity
from keras_mimo.grouping.class_gradients import class_gramian
from keras_mimo.grouping.clusters import spectral_groups
from keras_mimo.grouping.clusters import ward_groups
from keras_mimo.grouping.find_groups import ClassGrouping
from keras_mimo.grouping.find_groups import find_groups

__all__ = [
    "ClassGrouping",
    "class_affinity",
    "class_gramian",
    "find_groups",
    "spectral_groups",
    "ward_groups",
]
