"""What the site has that is in no Markdown file; `mkdocs.yml` names this hook.

- A reference page for each public module, with an entry for every name in its
  `__all__`. A name without a docstring is a warning, which `strict` makes an
  error, and so is an entry that did not get into the page.
- The changelog.
- The notebooks that docs/make_notebooks.py makes of the examples: with their
  outputs where `make notebooks` has run them as they are now, else without.
- Links from a page to files beside `docs/`, which work on GitHub as they stand:
  here they lead to the repository, or are plain text where `repo_url` is not
  given. That the file exists is checked either way.

Modules are read, not imported: building the site needs no backend.
"""

import functools
import logging
import re
from pathlib import Path

import griffe
import make_notebooks
import nbconvert
import nbformat
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGE = "keras_mimo"
# Those that `keras_mimo` does not itself name as modules.
MORE_MODULES = ("compare", "grouping")

# What a cell prints is no code of ours.
NOTEBOOK_TEMPLATE = """{%- extends 'markdown/index.md.j2' -%}
{% block stream %}
```{ .text .output .no-copy }
{{ output.text | strip_ansi }}
```
{% endblock stream %}
"""

log = logging.getLogger("mkdocs.hooks.site_hooks")


@functools.cache
def package():
    return griffe.load(PACKAGE, search_paths=[ROOT])


def resolve(module, name):
    """The object that a name of `module.__all__` stands for."""
    found = module[name]
    if found.is_alias:
        found = found.final_target
    # A function whose file has its name: the import replaces the module.
    if found.is_module and name in found.members:
        found = found[name]
        if found.is_alias:
            found = found.final_target
    return found


def public_modules():
    """The public modules, by name: `keras_mimo` and those in its `__all__`."""
    root = package()
    names = [n for n in root.exports if resolve(root, n).is_module]
    found = {PACKAGE: root}
    for name in sorted({*names, *MORE_MODULES}):
        found[f"{PACKAGE}.{name}"] = root[name]
    return found


def public_names(module):
    """What `__all__` names and is no module, as griffe's objects by name."""
    objects = {n: resolve(module, n) for n in sorted(module.exports)}
    return {
        name: found
        for name, found in objects.items()
        if not found.is_module and name != "__version__"
    }


def modules():
    """Public modules that have names of their own to show."""
    return {n: m for n, m in public_modules().items() if public_names(m)}


def home(found):
    """The module whose page has the entry: the narrowest that exports it."""
    return max(
        (
            name
            for name, module in modules().items()
            if found in public_names(module).values()
        ),
        key=len,
    )


def page_name(module_name):
    return f"reference/{module_name}.md"


def reference_page(module_name, module):
    lines = [f"# {module_name}", ""]
    if module.docstring:
        lines += [module.docstring.value, ""]
    else:
        log.warning("%s is public and has no docstring", module_name)
    elsewhere = []
    for name, found in public_names(module).items():
        full = f"{module_name}.{name}"
        if not found.docstring:
            log.warning("%s is public and has no docstring", full)
        other = home(found)
        if other != module_name:
            target = f"{other}.md#{found.path}"
            elsewhere.append(f"- [`{name}`]({target}), of `{other}`")
            continue
        lines += [f'<a id="{full}"></a>', "", f"::: {found.path}"]
        lines += ["    options:", f"      heading: {name}"]
        lines += [f"      toc_label: {name}", ""]
    if elsewhere:
        lines += ["## Also from other modules", "", *elsewhere, ""]
    return "\n".join(lines)


def notebook_files(name):
    """The page of a notebook, its pictures, and the notebook itself."""
    notebook, was_run = make_notebooks.newest(name)
    notebook_file = nbformat.writes(notebook)
    words = f"[The notebook]({name}.ipynb), to run in a copy of the repository."
    if not was_run:
        log.info("notebooks/%s has no outputs: run `make notebooks`", name)
        words += " It was not run for this site: `make notebooks` does that."
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(words))
    exporter = nbconvert.MarkdownExporter(raw_template=NOTEBOOK_TEMPLATE)
    page, resources = exporter.from_notebook_node(
        notebook,
        {"unique_key": name, "output_files_dir": f"{name}_files"},
    )
    picture = make_notebooks.NOTEBOOKS[name].picture
    return {
        f"{name}.md": page.replace("![png](", f"![{picture}]("),
        f"{name}.ipynb": notebook_file,
        **resources["outputs"],
    }


def on_files(files, config):
    pages = {page_name(n): reference_page(n, m) for n, m in modules().items()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for notebook in make_notebooks.NOTEBOOKS:
        for name, content in notebook_files(notebook).items():
            pages[f"notebooks/{name}"] = content
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_config(config):
    reference = [{name: page_name(name)} for name in modules()]
    config.nav = [*config.nav, {"Reference": reference}]
    config.nav.append({"Changelog": "changelog.md"})
    return config


def on_page_markdown(markdown, page, config, files):
    """Leads links out of `docs/` to the repository."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def replace(match):
        text, target = match.groups()
        path, _, _ = target.partition("#")
        file = (folder / path).resolve()
        if file.is_relative_to(ROOT / "docs"):
            return match[0]
        if not file.exists() or not file.is_relative_to(ROOT):
            log.warning("%s: no file %s", page.file.src_uri, target)
        if not config.repo_url:
            return text
        where = file.relative_to(ROOT).as_posix()
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{where})"

    return re.sub(r"\[([^]]*)\]\((\.\./[^)\s]*)\)", replace, markdown)


def on_post_build(config):
    """Finds entries that did not get into their page."""
    folder = Path(config.site_dir) / "reference"
    for module_name, module in modules().items():
        for name, found in public_names(module).items():
            page = (folder / f"{home(found)}.html").read_text("utf-8")
            if f'id="{found.path}"' not in page:
                log.warning("%s.%s has no entry", module_name, name)
