import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from keras_mimo.datasets import decode_cache
from keras_mimo.datasets.decode_cache import DecodeCache

ARRAY = np.arange(12, dtype="float32").reshape(3, 4)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.wav"
    path.write_bytes(b"sound")
    return path


class Decode:
    """Counts how often it is called."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return ARRAY


def entries(folder):
    return sorted(folder.glob("*/*.array"))


def test_nothing_is_decoded_twice(tmp_path, source):
    decode = Decode()
    for _ in range(2):
        cache = DecodeCache(tmp_path / "cache")
        array = cache.get([source], "a", decode)
        np.testing.assert_array_equal(array, ARRAY)
        assert array.dtype == np.float32
        array += 0
    assert decode.calls == 1
    assert len(entries(tmp_path / "cache")) == 1


@pytest.fixture
def switching():
    """Threads take turns in the middle of what CPython builds in C."""

    def switch(*_):
        time.sleep(0)

    was = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(5)
    gc.callbacks.append(switch)
    sys.setswitchinterval(1e-6)
    yield
    gc.callbacks.remove(switch)
    gc.set_threshold(*was[0])
    sys.setswitchinterval(was[1])


def test_threads_read_at_once(tmp_path, source, switching):
    cache, decode = DecodeCache(tmp_path / "cache"), Decode()
    cache.get([source], "a", decode)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        arrays = threads.map(
            lambda _: cache.get([source], "a", decode), range(800)
        )
        assert all((array == ARRAY).all() for array in arrays)
    assert decode.calls == 1


def test_other_settings_and_other_sources_are_decoded(tmp_path, source):
    cache, decode = DecodeCache(tmp_path / "cache"), Decode()
    cache.get([source], "a", decode)
    cache.get([source], "b", decode)
    cache.get([source, source], "a", decode)
    assert decode.calls == 3
    os.utime(source, ns=(1, 1))
    cache.get([source], "a", decode)
    assert decode.calls == 4
    source.write_bytes(b"another")
    os.utime(source, ns=(1, 1))
    cache.get([source], "a", decode)
    assert decode.calls == 5


def test_a_source_that_is_gone_is_named(tmp_path, source):
    cache = DecodeCache(tmp_path / "cache")
    cache.get([source], "a", Decode())
    source.unlink()
    with pytest.raises(FileNotFoundError, match=r"source\.wav"):
        cache.get([source], "a", Decode())


def test_entries_that_are_damaged_are_made_anew(tmp_path, source):
    cache, decode = DecodeCache(tmp_path / "cache"), Decode()
    cache.get([source], "a", decode)
    (entry,) = entries(tmp_path / "cache")
    content = entry.read_bytes()
    flipped = bytearray(content)
    flipped[-9] ^= 1
    cases = [content[:-1], content[:5], b"", bytes(len(content)), flipped]
    for calls, damaged in enumerate(cases, start=2):
        entry.write_bytes(damaged)
        np.testing.assert_array_equal(cache.get([source], "a", decode), ARRAY)
        assert decode.calls == calls
        assert entry.read_bytes() == content


def test_what_fails_to_decode_leaves_nothing(tmp_path, source):
    cache = DecodeCache(tmp_path / "cache")

    def fail():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        cache.get([source], "a", fail)
    with pytest.raises(ValueError, match="dtype=object"):
        cache.get([source], "a", lambda: np.array([{}]))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_no_folder_keeps_nothing(tmp_path, source):
    decode = Decode()
    for _ in range(2):
        DecodeCache(None).get([source], "a", decode)
    assert decode.calls == 2
    assert os.listdir(tmp_path) == ["source.wav"]


def test_only_old_files_that_are_not_complete_are_removed(tmp_path, source):
    cache = DecodeCache(tmp_path / "cache")
    cache.get([source], "a", Decode())
    unfinished = tmp_path / "cache" / "unfinished"
    for name, age in (("old", 7200), ("new", 0)):
        (unfinished / name).touch()
        os.utime(unfinished / name, (time.time() - age,) * 2)
    DecodeCache(tmp_path / "cache")
    assert os.listdir(unfinished) == ["new"]
    assert len(entries(tmp_path / "cache")) == 1


# Decodes 60 sources, large enough to be killed while it writes one.
BUILD = textwrap.dedent(
    """
    import runpy
    import sys
    import numpy as np

    # The file alone: Keras takes seconds to import.
    DecodeCache = runpy.run_path(sys.argv[1])["DecodeCache"]
    cache, source = DecodeCache(sys.argv[2]), sys.argv[3]
    print("started", flush=True)
    for i in range(60):
        array = cache.get([source], str(i), lambda: np.full(100_000, i))
        assert array.shape == (100_000,) and (array == i).all()
    """
)


def build(folder, source):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, decode_cache.__file__, folder, source],
        stdout=subprocess.PIPE,
    )


def test_two_processes_one_of_which_is_killed(tmp_path, source):
    folder = tmp_path / "cache"
    processes = [build(folder, source) for _ in range(2)]
    for process in processes:
        process.stdout.readline()
    killed, survivor = processes
    while not entries(folder):
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL or killed.returncode == 0
    assert survivor.wait() == 0
    for process in processes:
        process.stdout.close()
    assert len(entries(folder)) == 60
    # Which reads them all.
    again = build(folder, source)
    assert again.wait() == 0
    again.stdout.close()
