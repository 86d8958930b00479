"""Writes `sound_references.npz`, with which `test_sound.py` compares.

It needs librosa and torchaudio, which the tests do without:

    python -m venv references
    references/bin/pip install librosa==0.11.0 torch torchaudio==2.11.0
    references/bin/python tests/datasets/make_sound_references.py

`torchaudio/compliance/kaldi.py` alone does for the second, if torchaudio does
not fit the installed torch: name its path as the argument.
"""

import importlib.util
import sys
from pathlib import Path

import librosa
import numpy as np
import torch

if len(sys.argv) > 1:
    spec = importlib.util.spec_from_file_location("kaldi", sys.argv[1])
    kaldi = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kaldi)
else:
    from torchaudio.compliance import kaldi

# Every eighth, so that the file stays small.
ROWS = slice(None, None, 8)


def voice(rate, seconds):
    """Chirps and noise, as 16 bit."""
    random = np.random.default_rng(0)
    t = np.arange(int(rate * seconds)) / rate
    chirp = sum(np.sin(2 * np.pi * (f + 40 * t) * t) / f for f in (90, 700))
    noise = random.normal(size=len(t)) * (1 + np.sin(9 * t)) / 300
    samples = 20 * chirp + 3 * noise
    return (8000 * samples / np.abs(samples).max()).astype("int16")


sound = voice(16000, 0.8)
samples = sound.astype("float32") / 32768
references = {"sound": sound}
for size, hop in ((512, 353), (256, 128)):
    spectrum = librosa.stft(samples, n_fft=size, hop_length=hop)
    references[f"stft_{size}_{hop}"] = np.log(np.abs(spectrum) + 1e-7)[ROWS]
resampled = librosa.resample(samples, orig_sr=16000, target_sr=22050)
references["resampled"] = resampled[::16]
references["resampled_stft"] = np.log(
    np.abs(librosa.stft(resampled, n_fft=512, hop_length=353)) + 1e-7
)[ROWS]
for rate in (16000, 44100):
    waveform = torch.from_numpy(samples)[None]
    references[f"fbank_{rate}"] = kaldi.fbank(
        waveform - waveform.mean(),
        htk_compat=True,
        sample_frequency=rate,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    ).numpy()[:, ROWS]
path = Path(__file__).with_name("sound_references.npz")
np.savez_compressed(path, **references)
print(path, path.stat().st_size, "bytes")
