import keras

from keras_mimo.datasets.long_tail import long_tail


def load_cifar10_lt(
    imbalance_factor=0.01, kind="exp", class_order=None, seed=0, source=None
):
    """Loads CIFAR-10 with a long-tailed training set.

    `keras.datasets.cifar10` downloads the images. With the default arguments
    12,406 of the 50,000 are kept, from 5000 to 50 a class; the test set is
    whole, 1000 a class.

    Args:
        imbalance_factor: As for `keras_mimo.datasets.long_tail`.
            Defaults to `0.01`.
        kind: `"exp"` or `"step"`. Defaults to `"exp"`.
        class_order: All labels, the class that keeps most first, or `None` for
            0 to 9. Defaults to `None`.
        seed: Integer, decides which images are kept. Defaults to `0`.
        source: Pair `(train, test)` of `keras_mimo.datasets.Samples`, such as
            `from_tfds("cifar10", ...)` returns for each part, in whose order
            other images are kept. Defaults to `None`: `keras.datasets`.

    Returns:
        Tuple of NumPy arrays: `(x_train, y_train), (x_test, y_test)`, images of
        shape `(n, 32, 32, 3)` and labels of shape `(n, 1)`, all `uint8`, as
        `keras.datasets.cifar10.load_data` returns them.
        With `source`, a pair of `Samples`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    train, test = keras_mimo.datasets.load_cifar10_lt(imbalance_factor=0.02)
    ```

    Reference:

    - [Cao et al., 2019, Learning Imbalanced Datasets with
      Label-Distribution-Aware Margin Loss](https://arxiv.org/abs/1906.07413)
    """
    load = keras.datasets.cifar10.load_data
    return _load(
        source, load, imbalance_factor, kind, class_order=class_order, seed=seed
    )


def load_cifar100_lt(
    imbalance_factor=0.01, kind="exp", class_order=None, seed=0, source=None
):
    """Loads CIFAR-100, fine labels, with a long-tailed training set.

    `keras.datasets.cifar100` downloads the images. With the default arguments
    10,847 of the 50,000 are kept, from 500 to 5 a class; the test set is whole,
    100 a class.

    Args:
        imbalance_factor: As for `keras_mimo.datasets.long_tail`.
            Defaults to `0.01`.
        kind: `"exp"` or `"step"`. Defaults to `"exp"`.
        class_order: All labels, the class that keeps most first, or `None` for
            0 to 99. Defaults to `None`.
        seed: Integer, decides which images are kept. Defaults to `0`.
        source: Pair `(train, test)` of `keras_mimo.datasets.Samples`, such as
            `from_tfds("cifar100", ...)` returns for each part, in whose order
            other images are kept. Defaults to `None`: `keras.datasets`.

    Returns:
        Tuple of NumPy arrays: `(x_train, y_train), (x_test, y_test)`, images of
        shape `(n, 32, 32, 3)` and labels of shape `(n, 1)`, as
        `keras.datasets.cifar100.load_data` returns them.
        With `source`, a pair of `Samples`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    ```python
    train, test = keras_mimo.datasets.load_cifar100_lt()
    counts = keras_mimo.datasets.class_counts(train)
    ```

    Reference:

    - [Cao et al., 2019, Learning Imbalanced Datasets with
      Label-Distribution-Aware Margin Loss](https://arxiv.org/abs/1906.07413)
    """
    load = keras.datasets.cifar100.load_data
    return _load(
        source, load, imbalance_factor, kind, class_order=class_order, seed=seed
    )


def _load(source, load, *rule, **options):
    """Both parts, the first long-tailed, of a source or of what Keras loads."""
    if source is None:
        train, test = load()
        return long_tail(*train, *rule, **options), test
    train, test = source
    train, _ = long_tail(train, train.labels, *rule, **options)
    return train, test
