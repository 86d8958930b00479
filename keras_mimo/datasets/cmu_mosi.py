from keras_mimo.datasets.affect import load_sentiment


def load_cmu_mosi(
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
    """Loads CMU-MOSI: the sentiment of sentences by face, voice and words.

    2199 sentences from 93 videos, the smaller forerunner of CMU-MOSEI. The
    files, their two forms (`mosi_raw.pkl` of MultiBench; `aligned_50.pkl` and
    `unaligned_50.pkl` of MMSA) and what is done with them are as in
    `load_cmu_mosei`. Numbers of features differ between files: vision 35 or
    20, audio 74 or 5, text 300 or 768.

    **License**: research; the terms are those of CMU MultiComp Lab, and the
    videos are their authors'.

    Args:
        path: Path of the file.
        labels: As for `load_cmu_mosei`. Defaults to `"binary"`.
        cut: As for `load_cmu_mosei`. Defaults to `">0"`.
        text: As for `load_cmu_mosei`. Defaults to `"features"`.
        tokenize: As for `load_cmu_mosei`. Defaults to `None`.
        length: As for `load_cmu_mosei`. Defaults to `50`.
        batch_size: As for `load_cmu_mosei`. Defaults to `32`.
        seed: As for `load_cmu_mosei`. Defaults to `0`.
        **kwargs: As for `load_cmu_mosei`.

    Returns:
        Tuple `(train, validation, test)` of `keras_mimo.datasets.Samples`, as
        from `load_cmu_mosei`.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If `tokenize` is no function, or a number no integer.
        ValueError: If an argument has no such value, or the file is of another
            form or has numbers that are not finite.
        pickle.UnpicklingError: If the file is damaged, or holds something
            other than NumPy arrays and plain Python values.

    Example:

    ```python
    train, validation, test = keras_mimo.datasets.load_cmu_mosi(
        "aligned_50.pkl", text="ids", labels="regression"
    )
    ```

    Reference:

    - [Zadeh et al., 2016, MOSI: Multimodal Corpus of Sentiment Intensity and
      Subjectivity Analysis in Online Opinion Videos](
      https://arxiv.org/abs/1606.06259)
    - [Yu et al., 2021, Learning Modality-Specific Representations with
      Self-Supervised Multi-Task Learning for Multimodal Sentiment Analysis](
      https://arxiv.org/abs/2102.04830)
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
