"""Real data for examples and tests, never bundled, and long tails."""

from keras_mimo.datasets.cifar import load_cifar10_lt
from keras_mimo.datasets.cifar import load_cifar100_lt
from keras_mimo.datasets.class_counts import class_counts
from keras_mimo.datasets.emoji import load_emoji
from keras_mimo.datasets.emoji import load_emoji_index
from keras_mimo.datasets.fashion_mnist import load_fashion_mnist_lt
from keras_mimo.datasets.htad import HTAD_CLASSES
from keras_mimo.datasets.htad import load_htad
from keras_mimo.datasets.list_files import ImageList
from keras_mimo.datasets.long_tail import long_tail
from keras_mimo.datasets.mfeat import load_mfeat
from keras_mimo.datasets.samples import Samples
from keras_mimo.datasets.tfds import from_tfds
from keras_mimo.datasets.watch import WATCH_CLASSES
from keras_mimo.datasets.watch import load_watch
from keras_mimo.datasets.wordnet import WORDNET_CLASSES
from keras_mimo.datasets.wordnet import load_wordnet_nouns

__all__ = [
    "HTAD_CLASSES",
    "WATCH_CLASSES",
    "WORDNET_CLASSES",
    "ImageList",
    "Samples",
    "class_counts",
    "from_tfds",
    "load_cifar10_lt",
    "load_cifar100_lt",
    "load_emoji",
    "load_emoji_index",
    "load_fashion_mnist_lt",
    "load_htad",
    "load_mfeat",
    "load_watch",
    "load_wordnet_nouns",
    "long_tail",
]
