"""What has been decoded, kept on disk."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

# Another number when loaders decode in another way: old entries are not found.
_FORMAT = 2
# Seconds after which a file that is not complete was left by a killed process.
_ABANDONED = 3600


class DecodeCache:
    """Arrays on disk, each made of source files once.

    An entry is a line with dtype and shape, the array's bytes and a checksum.
    (Not a `.npy` file: NumPy reads its header with `ast`, which fails now and
    then where several threads use it, CPython issue 106905.) It is written to
    another name and then renamed: any number of processes may share a folder,
    and be killed. An entry that is damaged, or of a source file whose size or
    time has changed since, is made anew.

    Args:
        folder: Folder, made if there is none; or `None`, to keep nothing.
    """

    def __init__(self, folder):
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        self._unfinished = self.folder / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True)
        for path in self._unfinished.iterdir():
            # Another process may remove it first.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()

    def get(self, sources, settings, decode):
        """An array from the cache, which it is put into if it is not there.

        Args:
            sources: List of paths of what is decoded.
            settings: String that says how.
            decode: Function without arguments that returns the array.

        Returns:
            NumPy array of numbers.

        Raises:
            ValueError: If `decode` returns an array of anything else.
        """
        if self.folder is None:
            return decode()
        path = self._path(sources, settings)
        array = _load(path)
        if array is None:
            array = decode()
            self._save(path, array)
        return array

    def _path(self, sources, settings):
        key = [_FORMAT, settings]
        for source in sources:
            stat = os.stat(source)
            key += [os.path.abspath(source), stat.st_size, stat.st_mtime_ns]
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        # Not all in one folder, which some file systems are slow with.
        return self.folder / name[:2] / f"{name}.array"

    def _save(self, path, array):
        if array.dtype.hasobject or array.dtype.fields:
            raise ValueError(
                "`decode` must return an array of numbers. "
                f"Received: dtype={array.dtype}"
            )
        header = json.dumps([array.dtype.str, array.shape])
        content = header.encode() + b"\n" + array.tobytes()
        handle, unfinished = tempfile.mkstemp(dir=self._unfinished)
        try:
            with open(handle, "wb") as file:
                file.write(content)
                file.write(_checksum(content))
            path.parent.mkdir(exist_ok=True)
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise


def _load(path):
    """The array in a file, or `None` if there is none that is whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    content, checksum = content[:-4], content[-4:]
    if not content or _checksum(content) != checksum:
        return None
    header, _, data = content.partition(b"\n")
    dtype, shape = json.loads(header)
    # A copy, since what is in `bytes` cannot be written to.
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _checksum(content):
    return zlib.crc32(content).to_bytes(4, "little")
