"""Slips people make, and the line that says what to write."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from bnrecal.cli.app import cli
from bnrecal.cli.suggestions import CALLED_OTHERWISE
from bnrecal.study.hints import instead_of

SLIPS = [
    (("--bs", "8", "16"), "Got unexpected extra argument (16); a list is one word: --bs 8,16", "--bs 8,16"),
    (
        ("--bs=8", "16,", "--samples", "64", "128"),
        "Got unexpected extra arguments (16, 128); a list is one word: --bs 8,16 --samples 64,128",
        "--bs 8,16 --samples 64,128",
    ),
    (("--arch", "arch1", "arch2"), "one word: --arch arch1,arch2", "--arch arch1,arch2"),
    (("--samples", "1k"), "--samples: '1k' is no whole number; write 1000 or 1024", "--samples 1024"),
    (
        ("--samples", "64,2.5K"),
        "--samples: '2.5K' is no whole number; write 2500 or 2560",
        "--samples 64,2560",
    ),
    (("--bs", "8-64"), "--bs: '8-64' is no whole number; write 8,16,32,64", "--bs 8,16,32,64"),
    (("--bs", "8..48"), "--bs: '8..48' is no whole number; write 8,16,32,48", "--bs 8,16,32,48"),
    (("--batch-size", "8"), "no such option: --batch-size; did you mean --bs?", "--bs 8"),
    (("--batch_size=8",), "no such option: --batch_size; did you mean --bs?", "--bs 8"),
    (("--n-samples", "64"), "no such option: --n-samples; did you mean --samples?", "--samples 64"),
]


@pytest.mark.parametrize(("words", "said", "right"), SLIPS)
def test_a_slip_is_told_what_to_write(
    bnrecal: Callable[..., Any], words: tuple[str, ...], said: str, right: str
) -> None:
    """Exit code 2 and one line; the words it suggests are taken."""
    ran = bnrecal("sweep", *words, "--dry-run")
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert bnrecal("sweep", *right.split(), "--dry-run").code == 0


def test_the_same_slip_in_a_file_and_in_the_environment(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is named, the remedy is the same."""
    Path("study.toml").write_text('samples = ["4k"]\n')
    assert "study.toml: samples: '4k' is no whole number; write 4000 or 4096" in (
        bnrecal("sweep", "--study", "study.toml").err
    )
    monkeypatch.setenv("BNRECAL_BS", "8-16")
    assert "BNRECAL_BS: '8-16' is no whole number; write 8,16" in bnrecal("sweep", "--dry-run").err


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *(
            ("1k", "1000 or 1024"),
            ("1M", "1000000 or 1048576"),
            ("0.5k", "500 or 512"),
            ("8to64", "8,16,32,64"),
        ),
        *(("64-8", None), ("0k", None), ("0-8", None), ("8-8", None), ("0.0001k", None), ("x", None)),
        *(("1-99999999", None), ("", None), ("-8", None), ("1e3", None)),
    ],
)
def test_what_a_text_stands_for(text: str, meant: str | None) -> None:
    """Thousands of either kind, a range by doubling; nothing where it would be a guess."""
    assert instead_of(text) == meant


def test_a_missing_option_is_told_with_what_it_is_for(bnrecal: Callable[..., Any]) -> None:
    """Not its name alone."""
    said = "the file to write: safetensors, the weights with their new statistics"
    assert (
        bnrecal("recalibrate", "--arch", "arch1").err
        == f"bnrecal: Missing option '-o' / '--output': {said}\n"
    )
    assert "Missing option '--out': folder for weights" in bnrecal("train", "recipe.toml").err


def test_what_is_not_known_is_left_to_click(bnrecal: Callable[..., Any]) -> None:
    """An option of another command is not suggested here; words that belong to no list are only refused."""
    assert "did you mean --bs" not in bnrecal("report", "--batch-size", "8").err
    assert "'--device'" in bnrecal("sweep", "--devise=cpu", "--dry-run").err
    said = "Got unexpected extra argument (a.toml); did you mean --study a.toml?"
    assert bnrecal("sweep", "a.toml", "--bs", "8").err == f"bnrecal: {said}\n"
    said = "Got unexpected extra argument (w.pt); did you mean --weights w.pt?"
    assert bnrecal("doctor", "--arch", "arch1", "w.pt").err == f"bnrecal: {said}\n"
    assert "did you mean" not in bnrecal("sweep", "--study", "a.toml", "b").err
    ran = bnrecal("sweep", "results", "--dry-run")
    assert (ran.code, ran.err) == (2, "bnrecal: Got unexpected extra argument (results)\n")


def test_every_suggested_option_exists_and_no_alias_is_one() -> None:
    """Of some command; and what stands in the table is no option of a command that has the one it means."""
    options = {name for command in cli.commands.values() for p in command.params for name in p.opts}
    assert set(CALLED_OTHERWISE) <= options
    aliases = [word for words in CALLED_OTHERWISE.values() for word in words]
    assert len(set(aliases)) == len(aliases)
    for command in cli.commands.values():
        own = {name for p in command.params for name in p.opts}
        hidden = {word for option in CALLED_OTHERWISE.keys() & own for word in CALLED_OTHERWISE[option]}
        assert not {f"--{alias}" for alias in hidden} & own, command.name


def test_bare_is_the_help_page(bnrecal: Callable[..., Any]) -> None:
    """With its line breaks, on stderr, and click's exit code for nothing asked."""
    bare, asked = bnrecal(), bnrecal("--help")
    assert (bare.code, bare.out) == (click.UsageError.exit_code, "")
    assert bare.err == asked.out
    assert bare.err.count("\n") > 15


def test_the_manual_says_what_the_tool_says(bnrecal: Callable[..., Any]) -> None:
    """Each slip of docs/command-line.md, run, gives the line that stands below it."""
    lines = (Path(__file__).parents[2] / "docs/command-line.md").read_text().splitlines()
    shown = [(one.strip(), two.strip()) for one, two in itertools.pairwise(lines) if one.strip()[:2] == "$ "]
    assert len(shown) == 4
    for command, answer in shown:
        assert bnrecal(*command.split()[2:]).err == f"{answer}\n"
