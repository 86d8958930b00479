"""What a release says of itself is the same everywhere."""

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import keras_mimo

ROOT = Path(__file__).parents[2]
MODULES = [
    keras_mimo,
    *(
        importlib.import_module(f"keras_mimo.{name}")
        for name in sorted({*keras_mimo.__all__, "compare", "grouping"})
        if (ROOT / "keras_mimo" / name / "__init__.py").exists()
    ),
]


def citation(key):
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    return re.search(rf"^{key}: (.*)$", text, re.M)[1]


def test_versions_agree():
    version = keras_mimo.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    source = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert source == "keras_mimo.version.__version__"
    assert citation("version") == version
    assert citation("license") == project["project"]["license"]
    newest = re.search(
        r"^## (?:\[Unreleased\] |\[)(\d+\.\d+\.\d+)",
        (ROOT / "CHANGELOG.md").read_text("utf-8"),
        re.M,
    )
    assert newest[1] == version


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_public_names_are_documented(module):
    assert module.__doc__
    for name in module.__all__:
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, name
