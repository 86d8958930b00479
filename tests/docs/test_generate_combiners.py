"""The tables of combiners are those of the classes, and complete."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from keras_mimo import combiners

SCRIPT = Path(__file__).parents[2] / "docs" / "generate_combiners.py"
BASES = ("BalancedGradientCombiner", "CoordinateCombiner", "RowCombiner")
PUBLIC = [n for n in combiners.__all__ if n != "get" and n not in BASES]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_combiners", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(script):
    """Cells of the rows that are about a combiner, by the class's name."""
    found = []
    for line in script.generated().splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        spelled = cells and re.search(r"`(\w+)\([\w, ]*\)`$", cells[0])
        if spelled:
            found.append((spelled[1], cells))
    assert len(dict(found)) == len(found)
    return dict(found)


def test_the_page_is_up_to_date(script):
    assert script.main(["--check"]) == 0, "run `make docs`"


@pytest.mark.slow
def test_check_tells_a_page_that_differs(script, tmp_path, monkeypatch, capsys):
    page = tmp_path / "combiners.md"
    text = script.PAGE.read_text("utf-8")
    page.write_text(text.replace('| `"upgrad"`', '| `"other"`'), "utf-8")
    monkeypatch.setattr(script, "PAGE", page)
    before = page.read_text("utf-8")
    assert script.main(["--check"]) == 1
    assert "docs/generate_combiners.py" in capsys.readouterr().out
    assert page.read_text("utf-8") == before
    assert script.main([]) == 0
    assert page.read_text("utf-8") == text
    page.write_text("# Combiners\n", "utf-8")
    with pytest.raises(ValueError, match="must hold the two lines"):
        script.main([])


def test_every_public_combiner_has_a_row(rows):
    assert sorted(rows) == sorted(PUBLIC)


@pytest.mark.parametrize("mapping", ["WHEN", "WRAPPERS"])
def test_entries_and_combiners_must_match(script, monkeypatch, mapping):
    entries = getattr(script, mapping)
    with monkeypatch.context() as patch:
        patch.delitem(entries, "EveryN")
        with pytest.raises(ValueError, match=r"Missing: \['EveryN'\]"):
            script.generated()
    with monkeypatch.context() as patch:
        patch.setitem(entries, "Gone", entries["EveryN"])
        with pytest.raises(ValueError, match=r"unknown: \['Gone'\]"):
            script.generated()


def test_a_trait_without_words_is_refused(script, monkeypatch):
    traits = combiners.SumCombiner.traits | {"new"}
    monkeypatch.setattr(combiners.SumCombiner, "traits", traits)
    with pytest.raises(ValueError, match=r"Missing: \['new'\]"):
        script.generated()


@pytest.mark.parametrize("name", PUBLIC)
def test_links_are_those_of_the_docstring(rows, name):
    cells = rows[name]
    links = re.findall(r"\]\(([^)]*)\)", " ".join(cells))
    doc = inspect.getdoc(getattr(combiners, name))
    _, _, section = doc.partition("Reference:")
    assert links == re.findall(r"https://[^)\s]+", section)
    assert section.count("http") == len(links)


def test_names_are_those_that_compile_takes(rows):
    for cls, cells in rows.items():
        name = re.match(r'`"(\w+)"` or', cells[0])
        if name:
            assert type(combiners.get(name[1])).__name__ == cls
        else:
            with pytest.raises(TypeError):
                getattr(combiners, cls)()


def test_guarantees_are_those_of_the_traits(script, rows):
    words = {t: g.words for t, g in script.GUARANTEES.items()}
    for name, cells in rows.items():
        traits = getattr(combiners, name).traits
        if traits:
            shown = {t for t, w in words.items() if w in cells[2].split("; ")}
            assert shown <= traits
            for trait in traits & set(words) - shown:
                implied = [script.GUARANTEES[t].implies for t in shown]
                assert trait in sum(implied, ())


def test_wrappers_with_state_say_so(script):
    for name, wrapper in script.WRAPPERS.items():
        combiner = getattr(combiners, name)(combiners.MGDACombiner())
        combiner.build(["a", "b"])
        assert bool(combiner.variables) == (wrapper.state != "none")
