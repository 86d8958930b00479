"""Checks what is in a wheel, and that its description can be shown.

    python tests/release/check_wheel.py dist/keras_mimo-0.1.0-py3-none-any.whl

A package index renders the description, README.md, when it shows the package,
and refuses what it cannot render. The exit status is 1 if anything is wrong.
"""

import argparse
import email
import sys
import zipfile
from pathlib import Path

from readme_renderer import markdown

ROOT = Path(__file__).parents[2]


def wrong_files(names, package):
    """What must not be in the wheel, and what is missing, in words."""
    folders = {name.split("/")[0] for name in names}
    infos = {f for f in folders if f.endswith(".dist-info")}
    if len(infos) != 1 or folders - infos != {package.name}:
        yield f"expected {package.name} and its metadata, found {folders}"
    expected = {
        file.relative_to(package.parent).as_posix()
        for file in package.rglob("*.py")
    }
    expected |= {f"{package.name}/py.typed"}
    expected |= {f"{info}/licenses/LICENSE" for info in infos}
    for name in sorted(expected - names):
        yield f"{name} is missing"
    inside = {name for name in names if name.startswith(f"{package.name}/")}
    for name in sorted(inside - expected):
        yield f"{name} is no part of the package"


def check(path):
    """Yields what is wrong with the wheel at `path`, in words."""
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        yield from wrong_files(names, ROOT / "keras_mimo")
        (info,) = (n for n in names if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_string(wheel.read(info).decode())
    found = (
        metadata["Name"],
        metadata["Version"],
        metadata["License-Expression"],
    )
    version = Path(path).name.split("-")[1]
    if found != ("keras-mimo", version, "Apache-2.0"):
        yield f"name, version and licence are {found}"
    if not (markdown.render(metadata.get_payload()) or "").strip():
        yield "README.md does not render"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel")
    wheel = parser.parse_args(arguments).wheel
    faults = list(check(wheel))
    for fault in faults:
        print(f"{wheel}: {fault}")
    if not faults:
        print(f"{wheel}: as it should be")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
