from keras_mimo.datasets.affect import load_sentiment


def load_cmu_mosei(
    path,
    labels="binary",
    cut=">0",
    text="features",
    tokenize=None,
    length=50,
    batch_size=32,
    seed=0,
    **kwargs,
):
    """Loads CMU-MOSEI: the sentiment of sentences by face, voice and words.

    22,856 sentences from videos of 1000 speakers. The data is read from a file
    that others have made of the videos, neither downloaded nor bundled. Two
    forms are known:

    - that of [MultiBench](https://github.com/pliang279/MultiBench)
      (`mosei_raw.pkl`): a pickled dict `{"train", "valid", "test"}` of dicts
      with the arrays `vision` `(n, 50, 35)`, `audio` `(n, 50, 74)`, `text`
      `(n, 50, 300)` (GloVe) and `labels` `(n, 1, 1)`;
    - that of [MMSA](https://github.com/thuiar/MMSA) (`aligned_50.pkl`,
      `unaligned_50.pkl`): the same with `text` `(n, 50, 768)` (BERT),
      `text_bert` `(n, 3, 50)` (ids, mask, types), the strings `raw_text`, and
      `regression_labels` `(n,)`.

    No code in the file is run (`keras_mimo.datasets.safe_numpy.load_pickle`).
    Its arrays are held in memory as they are, and are not copied.

    As in MultiBench's code, samples whose text is all zero are dropped, and
    -inf in the audio becomes 0. Sequences stay as the file has them: those of
    MultiBench are filled with zeros at the start. A face or a voice that was
    not found is all zero, which
    `late_fusion(..., missing={"vision": 0, "audio": 0})` takes for missing.

    **License**: research; the terms are those of CMU MultiComp Lab, and the
    videos are their authors'.

    Args:
        path: Path of the file.
        labels: `"binary"`, or `"regression"` for the sentiment from -3 to 3.
            Defaults to `"binary"`.
        cut: Which sentiments are class 1: `">0"`, as in MultiBench, or
            `">=0"`, as in BalanceBenchmark. Defaults to `">0"`.
        text: `"features"`, or `"ids"` for BERT's ids, which files of MMSA have.
            Defaults to `"features"`.
        tokenize: Function from a string to a sequence of ids, of which 0 means
            no token, for ids of your own from the strings that files of MMSA
            have. Defaults to `None`.
        length: Positive integer, how many ids of `tokenize` a text has: it is
            cut, or filled with zeros at the end. Defaults to `50`.
        batch_size: Positive integer. Defaults to `32`.
        seed: Integer, decides the orders of the training samples. Defaults to
            `0`.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size`, as for
            `keras.utils.PyDataset`.

    Returns:
        Tuple `(train, validation, test)` of `keras_mimo.datasets.Samples`, the
        parts of the file. Training samples are shuffled.

        Inputs are dicts with `"vision"`, `"audio"` and `"text"`: `float32`
        arrays of shape `(batch, steps, features)`, or `int32` of shape
        `(batch, steps)` for ids. Labels are `int32`, 0 or 1, or `float32`, of
        shape `(batch,)`.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `tokenize` is no function, or a number no integer.
        ValueError: If an argument has no such value, or the file is of another
            form or has numbers that are not finite.
        pickle.UnpicklingError: If the file is damaged, or holds something
            other than NumPy arrays and plain Python values.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_cmu_mosei(
        "mosei_raw.pkl", workers=2
    )
    model.fit(train, validation_data=validation, epochs=10)
    ```

    Reference:

    - [Zadeh et al., 2018, Multimodal Language Analysis in the Wild: CMU-MOSEI
      Dataset and Interpretable Dynamic Fusion Graph](
      https://aclanthology.org/P18-1208/)
    - [Liang et al., 2021, MultiBench: Multiscale Benchmarks for Multimodal
      Representation Learning](https://arxiv.org/abs/2107.07502)
    """
    return tuple(
        load_sentiment(
            path,
            labels,
            cut,
            text,
            tokenize,
            length,
            batch_size,
            seed,
            kwargs,
        )
    )
