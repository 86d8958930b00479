from keras_mimo.datasets.affect import load_affect


def load_ur_funny(path, batch_size=32, seed=0, **kwargs):
    """Loads UR-FUNNY: whether a sentence of a talk is a punchline.

    Sentences of TED talks by face, voice and words, half of which the audience
    laughed at. The data is read from the file that
    [MultiBench](https://github.com/pliang279/MultiBench) has made of the talks
    (`humor.pkl`), neither downloaded nor bundled: a pickled dict
    `{"train", "valid", "test"}` of dicts with the arrays `vision`
    `(n, 50, 371)`, `audio` `(n, 50, 81)`, `text` `(n, 50, 300)` (GloVe) and
    `labels` (one number a sample; 1 is a punchline).

    What is done with it is as in `load_cmu_mosei`: no code in the file is run,
    samples whose text is all zero are dropped, -inf in the audio becomes 0,
    and sequences stay filled with zeros at the start.

    **License**: research; see https://github.com/ROC-HCI/UR-FUNNY. The talks
    are TED's.

    Args:
        path: Path of the file.
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides the orders of the training samples. Defaults to
            `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `keras_mimo.datasets.Samples`, the
        parts of the file. Training samples are shuffled.

        Inputs are dicts with `"vision"`, `"audio"` and `"text"`: `float32`
        arrays of shape `(batch, steps, features)`. Labels are `int32` of shape
        `(batch,)`, 1 for a punchline.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If a number is no integer.
        ValueError: If the file is of another form or has numbers that are not
            finite.
        pickle.UnpicklingError: If the file is damaged, or holds something
            other than NumPy arrays and plain Python values.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_ur_funny("humor.pkl")
    model.fit(train, validation_data=validation, epochs=10)
    ```

    Reference:

    - [Hasan et al., 2019, UR-FUNNY: A Multimodal Language Dataset for
      Understanding Humor](https://arxiv.org/abs/1904.06618)
    """

    def target(values):
        # Some files have -1 for what is no punchline.
        return (values > 0).astype("int32")

    return tuple(
        load_affect(
            path, target, 1, "features", None, 50, batch_size, seed, kwargs
        )
    )
