"""Real data for examples and tests, never bundled, and long tails."""

from keras_mimo.datasets.av_mnist import load_av_mnist
from keras_mimo.datasets.ave import load_ave
from keras_mimo.datasets.cifar import load_cifar10_lt
from keras_mimo.datasets.cifar import load_cifar100_lt
from keras_mimo.datasets.class_counts import class_counts
from keras_mimo.datasets.cmu_mosei import load_cmu_mosei
from keras_mimo.datasets.cmu_mosi import load_cmu_mosi
from keras_mimo.datasets.crema_d import CREMA_D_CLASSES
from keras_mimo.datasets.crema_d import load_crema_d
from keras_mimo.datasets.emoji import load_emoji
from keras_mimo.datasets.emoji import load_emoji_index
from keras_mimo.datasets.fashion_mnist import load_fashion_mnist_lt
from keras_mimo.datasets.htad import HTAD_CLASSES
from keras_mimo.datasets.htad import load_htad
from keras_mimo.datasets.kinetics_sounds import load_kinetics_sounds
from keras_mimo.datasets.list_files import ImageList
from keras_mimo.datasets.long_tail import long_tail
from keras_mimo.datasets.mfeat import load_mfeat
from keras_mimo.datasets.mm_imdb import MM_IMDB_GENRES
from keras_mimo.datasets.mm_imdb import load_mm_imdb
from keras_mimo.datasets.samples import Samples
from keras_mimo.datasets.tfds import from_tfds
from keras_mimo.datasets.ur_funny import load_ur_funny
from keras_mimo.datasets.vggsound import load_vggsound
from keras_mimo.datasets.watch import WATCH_CLASSES
from keras_mimo.datasets.watch import load_watch
from keras_mimo.datasets.wordnet import WORDNET_CLASSES
from keras_mimo.datasets.wordnet import load_wordnet_nouns

__all__ = [
    "CREMA_D_CLASSES",
    "HTAD_CLASSES",
    "MM_IMDB_GENRES",
    "WATCH_CLASSES",
    "WORDNET_CLASSES",
    "ImageList",
    "Samples",
    "class_counts",
    "from_tfds",
    "load_av_mnist",
    "load_ave",
    "load_cifar10_lt",
    "load_cifar100_lt",
    "load_cmu_mosei",
    "load_cmu_mosi",
    "load_crema_d",
    "load_emoji",
    "load_emoji_index",
    "load_fashion_mnist_lt",
    "load_htad",
    "load_kinetics_sounds",
    "load_mfeat",
    "load_mm_imdb",
    "load_ur_funny",
    "load_vggsound",
    "load_watch",
    "load_wordnet_nouns",
    "long_tail",
]
