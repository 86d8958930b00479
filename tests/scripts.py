"""Runs the scripts of the repository, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(script, *arguments, **options):
    """Runs a script on the backend and the package under test.

    Args:
        script: Path from the root of the repository.
        *arguments: Of the script.
        **options: Of `subprocess.run()`.
    """
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": search_path,
        "PYTHONIOENCODING": "utf-8",
    }
    return subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        **options,
    )


def printed(script, *arguments, **options):
    """What a script prints, which must not fail."""
    process = run(script, *arguments, **options)
    assert process.returncode == 0, process.stderr
    return process.stdout


def table(text):
    """The titles and the rows of the Markdown table in a text."""
    lines = [line for line in text.splitlines() if line[:1] == "|"]
    head, _, *rows = ([c.strip() for c in x.split("|")[1:-1]] for x in lines)
    return head, rows
