import keras
from keras import ops

from keras_mimo.utils.arguments import check_number
from keras_mimo.utils.arguments import check_units


def spectrogram(
    length, window=512, hop=353, offset=1e-7, encoder=None, name=None
):
    """A front end from sound waves to log spectrograms.

    The logarithm of the magnitudes of short Fourier transforms, by a Hann
    window, with zeros around the wave: by default what papers make of CREMA-D,
    at 22,050 samples a second, and what `keras_mimo.datasets.load_crema_d`
    returns. Nothing is trained. Where data come as spectrograms there is no
    need of it.

    Args:
        length: Positive integer, the samples of each wave, more than `window`.
        window: Positive even integer, the samples of each transform.
            Defaults to `512`.
        hop: Positive integer, the samples from one to the next.
            Defaults to `353`.
        offset: Positive float that is added to magnitudes.
            Defaults to `1e-7`.
        encoder: Model from spectrograms to features, which is put behind.
            Defaults to `None`.
        name: Optional name of the model.

    Returns:
        `keras.Model` from waves `(batch, length)` to spectrograms
        `(batch, 1 + window // 2, 1 + length // hop, 1)`, or to what `encoder`
        makes of them.

    Raises:
        TypeError: If a size is no integer or `offset` no number.
        ValueError: If an argument is out of range.

    Example:

    ```python
    # Three seconds: spectrograms of shape (257, 188, 1).
    sound = keras_mimo.models.spectrogram(
        66150, encoder=keras_mimo.models.ResNet18((257, 188), channels=1)
    )
    ```
    """
    length = check_units("length", length)
    window = check_units("window", window)
    hop = check_units("hop", hop)
    offset = check_number("offset", offset)
    if window % 2 or window >= length:
        raise ValueError(
            "`window` must be even and less than `length`. "
            f"Received: window={window}, length={length}"
        )
    inputs = keras.Input((length,), dtype="float32")
    # Not by `center=True`, which mirrors.
    padded = ops.pad(inputs, [[0, 0], [window // 2, window // 2]])
    real, imaginary = ops.stft(padded, window, hop, window, center=False)
    x = ops.log(ops.sqrt(ops.square(real) + ops.square(imaginary)) + offset)
    x = ops.expand_dims(ops.swapaxes(x, 1, 2), -1)
    if encoder is not None:
        x = encoder(x)
    return keras.Model(inputs, x, name=name or "spectrogram")
