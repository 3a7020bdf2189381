"""`bnrecal example`: what is listed can be written, once, into a folder that is made for it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bnrecal.host.examples import EXAMPLES, files_of
from tests.conftest import Ran


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_written_byte_for_byte(bnrecal: Callable[..., Ran], name: str) -> None:
    """Into a folder of its name, or the one that is given, with what to do next on stderr."""
    ran = bnrecal("example", name)
    assert ran.code == 0, ran.err
    for file in files_of(name):
        assert (Path(name) / file.name).read_bytes() == file.read_bytes()
    assert ran.err.startswith(f"next: cd {name} && ")
    assert bnrecal("example", name, "some/where").code == 0
    assert {file.name for file in Path("some/where").iterdir()} == {file.name for file in files_of(name)}


def test_the_list_names_all(bnrecal: Callable[..., Ran]) -> None:
    ran = bnrecal("example")
    assert [line.split()[0] for line in ran.out.splitlines()] == list(EXAMPLES)
    assert max(map(len, ran.out.splitlines())) <= 110


def test_files_that_exist_are_kept_unless_forced(bnrecal: Callable[..., Ran]) -> None:
    """One line and exit code 2; --force replaces them."""
    bnrecal("example", "own_network")
    Path("own_network/classifier.py").write_text("mine")
    ran = bnrecal("example", "own_network")
    assert ran.code == 2
    assert "exists; choose another folder or replace it by --force" in ran.err
    assert Path("own_network/classifier.py").read_text() == "mine"
    assert bnrecal("example", "own_network", "--force").code == 0
    assert Path("own_network/classifier.py").read_text() != "mine"


def test_unknown_names_and_folders_that_are_files(bnrecal: Callable[..., Ran]) -> None:
    """The valid names are listed; a file in the way is said."""
    ran = bnrecal("example", "../secret")
    assert ran.code == 2
    assert "unknown example '../secret'; valid: own_network, own_detector, averaged_weights" in ran.err
    Path("file").write_text("")
    ran = bnrecal("example", "own_network", "file")
    assert (ran.code, "cannot write to file" in ran.err) == (2, True)


def test_every_experiment_that_the_pages_name_is_an_example() -> None:
    """Whoever has the wheel alone gets what README, docs/ and results/ speak of, LOG.md apart."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "results").rglob("*.md")]
    named = {
        found
        for page in pages
        for found in re.findall(r"experiments/[\w./]+\.(?:py|toml)", page.read_text("utf-8"))
    }
    reachable = {str(file.relative_to(root)) for name in EXAMPLES for file in files_of(name)}
    assert len(named) > 8
    assert not {name for name in named if name not in reachable} - {"experiments/results.py"}
