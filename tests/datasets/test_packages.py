import io
import random
import tarfile

import pytest

from keras_mimo.datasets.packages import Package
from tests.datasets.archives import write_folder
from tests.datasets.archives import write_npm
from tests.datasets.archives import write_wheel

FILES = {
    "index.json": b"[1, 2]",
    "data/noise.bin": random.Random(0).randbytes(20_000),
    "unused.txt": b"-",
}
WANTED = ["data/noise.bin", "index.json"]


def write(folder, form):
    """Writes the package and returns its path."""
    if form == "wheel":
        return write_wheel(folder, "some-data", FILES)
    if form == "tgz":
        path = folder / "some-data-1.2.0.tgz"
        write_npm(path, FILES)
        return path
    write_folder(folder / form, FILES)
    return folder / form.split("/")[0]


def package(folder):
    return Package(folder, "some-data", "npm pack some-data")


@pytest.mark.parametrize(
    "form",
    ["tgz", "wheel", "some-data", "some-data-1.2.0", "some-data/package"],
)
def test_every_form_is_read_and_nothing_is_written(tmp_path, form):
    path = write(tmp_path, form)
    # Neighbours that only look like it.
    write_npm(tmp_path / "some-data-more-1.0.0.tgz", {})
    (tmp_path / "some-data-1.2.0.dist-info").mkdir()
    (tmp_path / "some-data.txt").touch()
    before = sorted(tmp_path.rglob("*"))

    found = package(str(tmp_path))
    assert found.path == path
    contents = found.read(WANTED)
    assert contents == {name: FILES[name] for name in WANTED}
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", ["tgz", "wheel", "some-data"])
def test_a_missing_file_is_named(tmp_path, form):
    path = write(tmp_path, form)
    with pytest.raises(FileNotFoundError, match=f"{path}` lacks `a.png`$"):
        package(tmp_path).read(["index.json", "a.png"])
    with pytest.raises(FileNotFoundError, match=r"`a\.png` and 1 more"):
        package(tmp_path).read(["a.png", "b.png"])


def test_a_missing_package_comes_with_the_command(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match="Run `npm pack some-data`"):
            package(folder)


def test_two_forms_are_not_chosen_from(tmp_path):
    write(tmp_path, "tgz")
    write(tmp_path, "some-data")
    with pytest.raises(ValueError, match=r"'some-data', 'some-data-1.*tgz'"):
        package(tmp_path)


@pytest.mark.parametrize("form", ["tgz", "wheel"])
@pytest.mark.parametrize("damage", ["no archive", "cut", "flipped"])
def test_a_damaged_archive_is_named(tmp_path, form, damage):
    path = write(tmp_path, form)
    content = bytearray(path.read_bytes())
    if damage == "no archive":
        content = b"<html>not found</html>"
    elif damage == "cut":
        content = content[: len(content) // 2]
    else:
        # Of the noise, which is stored as it is, or of its block's header.
        for place in range(200, len(content) - 400, 7):
            content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"`{path}` is damaged"):
        package(tmp_path).read(WANTED)


def test_members_that_are_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "some-data-1.0.0.tgz", "w:gz") as archive:
        for kind, target in (
            (tarfile.SYMTYPE, str(secret)),
            (tarfile.LNKTYPE, "package/real"),
        ):
            member = tarfile.TarInfo(f"package/link{kind.decode()}")
            member.type = kind
            member.linkname = target
            archive.addfile(member)
        member = tarfile.TarInfo("package/../outside")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"-"))
    for name in ("link1", "link2", "outside"):
        with pytest.raises(FileNotFoundError, match=f"lacks `{name}`"):
            package(tmp_path).read([name])
    assert len(list(tmp_path.iterdir())) == 2
