"""What builds the site, and what looks at it. Both need the extra `docs`."""

import importlib.util
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

PAGE = """<!doctype html><html><head>
<link rel="icon" href="data:,"></head><body>
<input class="md-search__input"><div class="md-content">{}</div></body></html>
"""
WIDE = "<p style='white-space: nowrap'>" + "word " * 500 + "</p>"
BROKEN = {
    "picture.html": ("<img src='nowhere.png'>", "picture does not show"),
    "script.html": ("<script>nothing()</script>", "error: nothing"),
    "console.html": ("<script>console.error('bad')</script>", "console: bad"),
    "wide.html": (WIDE, "text runs out of the page: word"),
    "sideways.html": (
        "<div style='width: 3000px; height: 1px'></div>",
        "scrolls sideways",
    ),
}


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def docstrings():
    pytest.importorskip("griffe")
    return load("site_docstrings")


@pytest.fixture
def check_site():
    pytest.importorskip("playwright")
    script = load("check_site")
    if not any(map(shutil.which, script.BROWSERS)):
        pytest.skip("no Chromium on the path")
    return script


def test_formulas(docstrings):
    assert docstrings.formula_to_html(
        "F = sum_k rho_k * exp(-s_k)^2 >= penalty"
    ) == (
        '<p class="formula"><i>F</i> = ∑<sub>k</sub> <i>ρ</i><sub>k</sub> · '
        "exp(−<i>s</i><sub>k</sub>)<sup>2</sup> ≥ penalty</p>\n"
    )


def test_docstrings(docstrings):
    text = docstrings.prepare(
        "Does.\n\nIn short\n\n    k_m = 1\n\nwith `a`.\n\n"
        "Args:\n    a: One.\n\n        b = 2\n\n"
        "Call arguments:\n    x: It.\n\nReference:\n\n"
        "- [A paper](\n    https://example.org/1)"
    )
    formula = '<p class="formula"><i>k</i><sub>m</sub> = 1</p>'
    assert text.count("formula") == 1 and formula in text
    assert "        b = 2" in text and "with `a`." in text
    assert "\nArgs: Call arguments\n    x: It." in text
    assert "**Reference**\n\n- [A paper](https://example.org/1)" in text


@pytest.mark.slow
def test_what_is_broken_is_found(check_site, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check_site, "SEARCH_MS", 100)
    site = tmp_path / "site"
    site.mkdir()
    scrolls = f"<div style='overflow-x: auto'>{WIDE}</div>"
    (site / "index.html").write_text(PAGE.format(scrolls), "utf-8")
    arguments = ["--site", str(site), "--screenshots", str(tmp_path / "shots")]
    # A page without a search finds none of the three words.
    assert check_site.main([*arguments, "--pages", "index.html"]) == 1
    assert "1 pages, 4 looks, 3 faults" in capsys.readouterr().out
    for name, (body, _) in BROKEN.items():
        (site / name).write_text(PAGE.format(body), "utf-8")
    assert check_site.main([*arguments, "--pages", *BROKEN]) == 1
    printed = capsys.readouterr().out.splitlines()
    for name, (_, fault) in BROKEN.items():
        found = [line for line in printed if line.startswith(f"{name}, ")]
        assert sum(fault in line for line in found) == 4, name
    assert len(list((tmp_path / "shots").glob("*/*.png"))) == 4 * 6
