import sys

import pytest

from benchmarks import fetch_data


def command(name, content="whole"):
    """Writes a file, as a client of a registry does."""
    code = f"open({name!r}, 'w').write({content!r})"
    return [sys.executable, "-c", code]


def test_only_what_is_not_there_is_fetched(tmp_path, capsys):
    folder = tmp_path / "data"
    commands = {"a.whl": command("a.whl"), "b.tgz": command("b.tgz")}
    fetch_data.fetch({"a.whl": commands["a.whl"]}, folder)
    (folder / "a.whl").write_text("kept")
    capsys.readouterr()
    fetch_data.fetch(commands, folder)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a.whl is there"
    assert second.startswith("b.tgz: ")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.whl": "kept",
        "b.tgz": "whole",
    }


@pytest.mark.parametrize(
    "failing, message",
    [
        ([sys.executable, "-c", "open('a', 'w'); exit(3)"], "exit status 3"),
        (["no-such-client", "pack"], "no-such-client is not installed"),
    ],
)
def test_a_failure_leaves_nothing_behind(tmp_path, failing, message):
    with pytest.raises(SystemExit, match=message):
        fetch_data.fetch({"a": failing}, tmp_path)
    assert list(tmp_path.iterdir()) == []
