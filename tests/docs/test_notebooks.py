"""The notebooks have the code of the examples, and run."""

import ast
import importlib.util
import re
from pathlib import Path

import keras
import pytest

from tests.datasets.emoji_files import write_emoji
from tests.fashion_mnist import write_easy

nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
NAMES = ("quickstart", "long_tail", "image_text")


@pytest.fixture(scope="module")
def script():
    path = ROOT / "docs" / "make_notebooks.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(notebook):
    return [c.source for c in notebook.cells if c.cell_type == "code"]


def text_of(notebook):
    return [c.source for c in notebook.cells if c.cell_type == "markdown"]


def without_docstring(node):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(node)


def statements(sources):
    return [without_docstring(n) for s in sources for n in ast.parse(s).body]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_code_and_the_words_of_its_script(script, name):
    notebook = script.make(name)
    nbformat.validate(notebook)
    body = ast.parse((ROOT / "examples" / f"{name}.py").read_text("utf-8")).body
    docstring, *body = body
    found = statements(code_of(notebook))
    words = "\n".join(text_of(notebook))
    assert docstring.value.value.partition("\n\n")[2].strip() in words
    (main,) = (n for n in body if getattr(n, "name", None) == "main")
    run = [n for n in main.body if "parser" not in ast.unparse(n)]
    for node in (*body[:-1], *run):
        if node is main:
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert (ast.get_docstring(node) or "") in words
        dump = without_docstring(node)
        assert dump in found, ast.unparse(node)
    # What runs, in its order: behind the settings, before the picture.
    shown = statements([script.SHOW])
    assert found[-len(run) - len(shown) :] == [
        *map(ast.dump, run),
        *shown,
    ]
    assert "parser" not in "\n".join(code_of(notebook))


def test_settings_are_those_of_the_script_but_for_what_is_small(script):
    (settings,) = (
        code
        for code in code_of(script.make("long_tail", seeds=2, data="x"))
        if code.startswith("arguments = ")
    )
    names = {"Path": Path, "argparse": __import__("argparse")}
    exec(settings, names)
    assert vars(names["arguments"]) == {
        "seeds": 2,
        "epochs": 30,
        "data": Path("x"),
        "output": Path("long_tail_output"),
    }
    # A flag, which is off.
    assert "    gbg=False," in "\n".join(code_of(script.make("image_text")))
    with pytest.raises(ValueError, match=r"named \['sed'\].*'seeds'"):
        script.make("long_tail", sed=2)


def test_outputs_are_shown_while_they_are_of_this_code(
    script, tmp_path, monkeypatch
):
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    notebook, was_run = script.newest("quickstart")
    assert not was_run
    output = nbformat.v4.new_output("stream", text="printed")
    notebook.cells[-1].outputs = [output]
    nbformat.write(notebook, tmp_path / "quickstart.ipynb")
    notebook, was_run = script.newest("quickstart")
    assert was_run and notebook.cells[-1].outputs == [output]
    notebook.cells[-1].source += "\n"
    nbformat.write(notebook, tmp_path / "quickstart.ipynb")
    assert not script.newest("quickstart")[1]


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the examples have tests of their own on each backend",
)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(script, name, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = {"seeds": 1, "epochs": 1}
    if name == "long_tail":
        settings |= {"epochs": 6, "data": str(write_easy(tmp_path))}
    if name == "image_text":
        settings |= {"epochs": 2, "data": str(write_emoji(tmp_path))}
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    notebook = script.make(name, **settings)
    script.run(notebook, folder)
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert "image/png" in outputs[-1]["data"]
    printed = "".join(o.get("text", "") for o in outputs)
    assert len(re.findall(r"^\| ", printed, re.M)) > 4
    assert list(folder.glob("*_output/*.png"))
