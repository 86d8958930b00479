"""Makes a notebook of each of three examples, and runs it.

    python docs/make_notebooks.py
    python docs/make_notebooks.py --only quickstart --bare

They are written to `notebooks/` with what they print and draw, and the site
shows them (`docs/site_hooks.py`). None is in the repository: the scripts are.

A notebook has the code of its script in cells, with docstrings and the comments
above a statement as text. What `main()` does comes last, in the open, and where
the script reads its command line there are settings, small enough to run in
about a minute.
"""

import argparse
import ast
import re
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import v4

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
CELL_SECONDS = 900
# In a notebook it logs to where `print()` does.
TENSORFLOW_LOG = re.compile(r"^(INFO|WARNING):tensorflow:.*\n", re.MULTILINE)


class Example(NamedTuple):
    """What a notebook needs that its script does not say."""

    picture: str
    settings: dict = {}


NOTEBOOKS = {
    "quickstart": Example(
        "Validation accuracy per epoch of the fused model and of each sensor",
        {"seeds": 1},
    ),
    "long_tail": Example(
        "Recall of each class by its size, and the cosines of the gradients "
        "of the classes",
        {"seeds": 1},
    ),
    "image_text": Example(
        "Emoji that only the picture, only the keywords or only both together "
        "get right",
        {"seeds": 1},
    ),
}

PLACE = """import sys

# The script, in the copy of the repository in whose `notebooks/` this is.
__file__ = "../examples/{name}.py"
sys.path.insert(0, "../examples")"""
SHOW = """from IPython.display import Image

Image(filename=picture)"""


class Script:
    """A script, as statements and the lines that they stand in."""

    def __init__(self, text):
        self.lines = text.splitlines()
        self.body = ast.parse(text).body

    def start(self, node):
        """The index of a statement's first line, with decorators."""
        decorators = getattr(node, "decorator_list", [])
        return min(n.lineno for n in (node, *decorators)) - 1

    def comment(self, node):
        """The index where the comment right above a statement begins."""
        first = self.start(node)
        while first and self.lines[first - 1].lstrip().startswith("#"):
            first -= 1
        return first

    def code(self, first, end, leave_out=()):
        """Lines from `first` to before `end`, as they are but for indents."""
        lines = [
            line
            for number, line in enumerate(self.lines[first:end], first)
            if number not in leave_out
        ]
        return textwrap.dedent("\n".join(lines)).strip("\n")


def definition(script, node):
    """A function or a class: its words as text, and its code."""
    first = script.start(node)
    above = [
        line.lstrip("# ") for line in script.lines[script.comment(node) : first]
    ]
    words = [" ".join(above)] if above else []
    leave_out = ()
    if docstring := ast.get_docstring(node):
        words.append(f"`{node.name}`: {docstring}")
        string = node.body[0]
        end = string.end_lineno
        # The empty line that may follow goes too.
        end += not script.lines[end].strip()
        leave_out = range(string.lineno - 1, end)
    text = [v4.new_markdown_cell("\n\n".join(words))] if words else []
    code = script.code(first, node.end_lineno, leave_out)
    return [*text, v4.new_code_cell(code)]


def definitions(script, nodes):
    """Cells of statements: one for each definition, one for all between."""
    cells, constants = [], []

    def flush():
        if constants:
            code = script.code(
                script.comment(constants[0]), constants[-1].end_lineno
            )
            cells.append(v4.new_code_cell(code))
            constants.clear()

    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            flush()
            cells += definition(script, node)
        else:
            constants.append(node)
    flush()
    return cells


def names(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def arguments_of(main):
    """The calls of `parser.add_argument()` in `main()`."""
    return [
        node.value
        for node in main.body
        if isinstance(node, ast.Expr)
        and ast.unparse(node.value).startswith("parser.add_argument(")
    ]


def settings_cell(main, settings):
    """What stands for the command line: defaults, but for `settings`."""
    lines, known = [], set()
    for call in arguments_of(main):
        name = call.args[0].value.removeprefix("--")
        known.add(name)
        given = {k.arg: k.value for k in call.keywords}
        flag = "action" in given and given["action"].value == "store_true"
        default = given.get("default", ast.Constant(False if flag else None))
        if name in settings:
            default = ast.Constant(settings[name])
        value = ast.unparse(default)
        if "Path" in names(call) and isinstance(
            getattr(default, "value", None), str
        ):
            value = f'Path("{default.value}")'
        words = given.get("help")
        words = f"  # {words.value}" if isinstance(words, ast.Constant) else ""
        lines.append(f"    {name}={value},{words}")
    if unknown := settings.keys() - known:
        raise ValueError(
            f"No argument of the script is named {sorted(unknown)}: they are "
            f"{sorted(known)}"
        )
    code = ["arguments = argparse.Namespace(", *lines, ")"]
    return v4.new_code_cell("\n".join(code))


def run_cells(script, main):
    """What `main()` does, in cells: as its paragraphs, and after each loop."""
    cells, first, previous = [], None, None
    for node in main.body:
        if "parser" in names(node):
            continue
        start = script.comment(node)
        if previous is not None and (
            isinstance(previous, ast.For) or not script.lines[start - 1].strip()
        ):
            cells.append(script.code(first, previous.end_lineno))
            first = None
        first = start if first is None else first
        previous = node
    cells.append(script.code(first, previous.end_lineno))
    return [v4.new_code_cell(code) for code in cells]


def about_settings(name, main, settings):
    """A sentence that says what is small here."""
    defaults = {
        call.args[0].value.removeprefix("--"): ast.unparse(k.value)
        for call in arguments_of(main)
        for k in call.keywords
        if k.arg == "default"
    }
    small = [
        f"`{key}` is {value}, where the script has {defaults.get(key, 'none')}"
        for key, value in settings.items()
    ]
    return (
        f"Made from `examples/{name}.py`, which says the same in one piece. "
        f"Settings are small: {', '.join(small)}. The pages of the "
        "documentation have figures over several seeds."
    )


def make(name, **settings):
    """Makes the notebook of an example, without outputs.

    Args:
        name: Key of `NOTEBOOKS`.
        **settings: Instead of those that it has there.
    """
    settings = settings or NOTEBOOKS[name].settings
    text = (ROOT / "examples" / f"{name}.py").read_text("utf-8")
    script = Script(text)
    docstring, *body = script.body
    (main,) = (n for n in body if getattr(n, "name", None) == "main")
    middle = body.index(main)
    imports = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    begin = body.index(imports[-1]) + 1
    # The last statement calls `main()`.
    before, after = body[begin:middle], body[middle + 1 : -1]

    title, _, rest = docstring.value.value.strip().partition("\n\n")
    words = [f"# {title.removesuffix('.')}", rest]
    words.append(about_settings(name, main, settings))
    cells = [v4.new_markdown_cell("\n\n".join(words))]
    cells.append(v4.new_markdown_cell("## Imports"))
    if "__file__" in text:
        cells.append(v4.new_code_cell(PLACE.format(name=name)))
    code = script.code(docstring.end_lineno, imports[-1].end_lineno)
    cells.append(v4.new_code_cell(code))
    cells.append(v4.new_markdown_cell("## Data, models and training"))
    cells += definitions(script, before)
    cells.append(v4.new_markdown_cell("## What prints and draws"))
    cells += definitions(script, after)
    cells.append(v4.new_markdown_cell("## Run it"))
    cells.append(settings_cell(main, settings))
    cells += run_cells(script, main)
    cells.append(v4.new_code_cell(SHOW))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {**kernel, "language": "python"},
            "language_info": {"name": "python"},
        },
    )
    nbformat.validate(notebook)
    return notebook


def run(notebook, folder):
    """Runs a notebook in a folder beside `examples/`; fills in its outputs."""
    import nbclient

    nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    drop_logs(notebook)


def drop_logs(notebook):
    """Removes what libraries log; what the example prints is left."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            if output.output_type == "stream":
                output.text = TENSORFLOW_LOG.sub("", output.text)


def same_code(one, other):
    return [c.source for c in one.cells] == [c.source for c in other.cells]


def newest(name):
    """The notebook, and whether it has outputs: if it was run as it is now."""
    notebook = make(name)
    path = FOLDER / f"{name}.ipynb"
    if path.exists():
        found = nbformat.read(path, as_version=4)
        if same_code(found, notebook):
            return found, any(c.get("outputs") for c in found.cells)
    return notebook, False


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NOTEBOOKS)
    parser.add_argument(
        "--bare", action="store_true", help="without running them"
    )
    args = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in args.only or NOTEBOOKS:
        notebook = make(name)
        start = time.perf_counter()
        if not args.bare:
            print(f"{name} ...", flush=True)
            run(notebook, FOLDER)
        path = FOLDER / f"{name}.ipynb"
        nbformat.write(notebook, path)
        print(f"{path}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
