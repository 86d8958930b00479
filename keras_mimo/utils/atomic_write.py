import contextlib
import os
from pathlib import Path

# What is written as one local file, by Keras and by `compare()`.
FILES = (".keras", ".h5", ".json")


@contextlib.contextmanager
def atomic_write(filepath, overwrite=True):
    """Gives another path to write to, which takes the place of `filepath`.

    Keras writes in place: a process that is killed while it saves leaves no
    file that loads. Here the old file is there until the new one is complete.

    Args:
        filepath: String or path. What is no such local file is given back as
            it is.
        overwrite: Boolean. If `False`, `filepath` is given back as it is.
    """
    if not overwrite or not _is_local_file(filepath):
        yield filepath
        return
    # What a link points to is replaced, not the link.
    target = Path(filepath).resolve()
    unfinished = target.with_name(f"unfinished_{target.name}")
    try:
        yield str(unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_local_file(filepath):
    if not isinstance(filepath, (str, os.PathLike)):
        return False
    path = os.fspath(filepath)
    return "://" not in path and path.endswith(FILES)
