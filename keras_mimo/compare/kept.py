import json
import re
from pathlib import Path

from keras_mimo.utils.atomic_write import atomic_write


class KeptRuns:
    """What finished, on disk: a JSON file each, which appears complete.

    Args:
        folder: Path, or `None` to keep everything in memory only.
    """

    def __init__(self, folder):
        self._folder = None if folder is None else Path(folder)
        self._memory = {}
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def find(self, key):
        """The record of a key, under whatever name, or `None`."""
        if self._folder is None or key in self._memory:
            return self._memory.get(key)
        for path in self._folder.glob(f"*-{key}.json"):
            if not path.name.startswith("unfinished_"):
                return json.loads(path.read_text())
        return None

    def add(self, name, key, record):
        self._memory[key] = record
        if self._folder is not None:
            with atomic_write(self._path(name, key)) as path:
                Path(path).write_text(json.dumps(record, indent=1))

    def _path(self, name, key):
        readable = re.sub(r"\W+", "_", name).strip("_")
        return self._folder / f"{readable}-{key}.json"
