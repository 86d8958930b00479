"""Sound files, and the spectrograms that the papers make of them.

Reference: `librosa.stft` and `torchaudio.compliance.kaldi.fbank`, with which
the tests compare.
"""

import functools

import numpy as np

# Kaldi's least energy: that of float32.
_EPSILON = np.finfo("float32").eps
# Of the filter of soxr's "HQ", by which librosa resamples: the share of the
# band that passes unchanged, and by how many dB what is above it is damped.
_PASS_BAND = 0.9136
_STOP_DB = 136.0


def scipy_signal():
    """The module `scipy.signal`.

    Raises:
        ImportError: If SciPy is not installed.
    """
    try:
        import scipy.io.wavfile
        import scipy.signal
    except ImportError as error:
        raise ImportError(
            "Loaders of sound need SciPy. Install it with "
            "`pip install keras-mimo[sound]`."
        ) from error
    return scipy.signal


def read_wav(path):
    """Reads a `.wav` file; SciPy warns of one that ends too early.

    Args:
        path: Path.

    Returns:
        Tuple of a `float32` array of shape `(samples, channels)`, where full
        scale is 1, and of the number of samples a second.

    Raises:
        ValueError: If it is no `.wav` file, is damaged, or holds no sample.
    """
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(path)
    except OSError:
        raise
    # A damaged header can raise the exceptions of `struct` too.
    except Exception as error:
        raise ValueError(
            f"`{path}` must be a .wav file. Received: {error}"
        ) from error
    if not len(samples) or rate < 1:
        raise ValueError(
            f"`{path}` must hold sound. Received: {len(samples)} samples, "
            f"{rate} a second"
        )
    samples = samples.reshape(len(samples), -1)
    if samples.dtype == np.uint8:
        return (samples.astype("float32") - 128) / 128, rate
    if samples.dtype.kind == "i":
        full_scale = -float(np.iinfo(samples.dtype).min)
        return (samples / full_scale).astype("float32"), rate
    return samples.astype("float32"), rate


def read_mono(path, rate):
    """A file as `librosa.load(path, sr=rate)` reads it: mixed, resampled.

    Args:
        path: Path of a `.wav` file.
        rate: Integer, how many samples a second are wanted.

    Returns:
        `float32` array of shape `(samples,)`.
    """
    samples, found = read_wav(path)
    return resample(samples.mean(axis=1), found, rate)


def resample(samples, rate, wanted):
    """Samples at another rate.

    The filter lets pass and damps what that of librosa does (soxr's "HQ"), so
    that bands that a file does not have stay as empty as there.

    Args:
        samples: `float32` array of shape `(n,)`.
        rate: Integer, samples a second.
        wanted: Integer.

    Returns:
        `float32` array of shape `(ceil(n * wanted / rate),)`.
    """
    if rate == wanted:
        return samples
    common = np.gcd(rate, wanted)
    up, down = int(wanted // common), int(rate // common)
    return (
        scipy_signal()
        .resample_poly(samples, up, down, window=_low_pass(max(up, down)))
        .astype("float32")
    )


@functools.lru_cache
def _low_pass(factor):
    """A filter of the lower of two rates, at the higher: `factor` times it."""
    signal = scipy_signal()
    size, beta = signal.kaiserord(_STOP_DB, (1 - _PASS_BAND) / factor)
    return signal.firwin(
        size | 1, (1 + _PASS_BAND) / 2 / factor, window=("kaiser", beta)
    )


def log_stft(samples, size, hop):
    """`log(abs(librosa.stft(samples, n_fft=size, hop_length=hop)) + 1e-7)`.

    Windows are centred, with zeros around the samples (so librosa since 0.9;
    before, the sound was mirrored, which changes the first and the last
    column).

    Args:
        samples: Array of shape `(n,)`.
        size: Integer, the length of the window (Hann, periodic).
        hop: Integer, from one window to the next.

    Returns:
        `float32` array of shape `(size // 2 + 1, n // hop + 1)`.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    amplitudes = np.abs(np.fft.rfft(frames * window))
    return np.log(amplitudes.T + 1e-7).astype("float32")


def kaldi_fbank(samples, rate, bins):
    """Kaldi's log-mel energies, as Kinetics-Sounds has them.

    `torchaudio.compliance.kaldi.fbank(samples, htk_compat=True,
    sample_frequency=rate, use_energy=False, window_type="hanning",
    num_mel_bins=bins, dither=0.0, frame_shift=10)`: frames of 25 ms every
    10 ms without their mean, pre-emphasis of .97, the power of a spectrum whose
    length is a power of 2, triangles in Kaldi's mel scale from 20 Hz up.

    Args:
        samples: Array of shape `(n,)`.
        rate: Integer, samples a second.
        bins: Integer, how many energies.

    Returns:
        `float32` array of shape `(frames, bins)`: no frame if the samples are
        shorter than one.
    """
    size, hop = int(rate * 0.025), int(rate * 0.01)
    if len(samples) < size:
        return np.zeros((0, bins), "float32")
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    frames = frames - frames.mean(axis=1, keepdims=True, dtype="float64")
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - 0.97 * before) * np.hanning(size)
    length = 1 << (size - 1).bit_length()
    power = np.abs(np.fft.rfft(frames, length)) ** 2
    energies = power @ _mel_triangles(rate, length, bins)
    return np.log(np.maximum(energies, _EPSILON)).astype("float32")


@functools.lru_cache
def _mel_triangles(rate, length, bins):
    """Weights of shape `(length // 2 + 1, bins)`."""

    def mel(frequency):
        return 1127 * np.log1p(frequency / 700)

    edges = np.linspace(mel(20), mel(rate / 2), bins + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    x = mel(np.arange(length // 2 + 1) * rate / length)[:, None]
    rising = (x - left) / (middle - left)
    falling = (right - x) / (right - middle)
    triangles = np.maximum(0, np.minimum(rising, falling))
    # Kaldi leaves out the highest frequency.
    triangles[-1] = 0
    return triangles
