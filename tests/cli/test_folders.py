"""Result folders as arguments of report, show and verify."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.store.store import Store

SWEEP = ("sweep", "--task", "tiny", "--arch", "arch1", "--samples", "64")


@pytest.fixture
def two(bnrecal: Callable[..., Any]) -> None:
    """Folders `one` (bs 8) and `two` (bs 16, and bs 8 once more)."""
    assert bnrecal(*SWEEP, "--bs", "8", "--out", "one").code == 0
    assert bnrecal(*SWEEP, "--bs", "8,16", "--out", "two").code == 0


@pytest.mark.usefixtures("two")
def test_a_folder_is_an_argument_or_out(bnrecal: Callable[..., Any]) -> None:
    """Both say the same; both at once are refused, in one line."""
    assert bnrecal("report", "one").out == bnrecal("report", "--out", "one").out != ""
    key = Store(Path("one")).rows()[0]["key"]
    told = {bnrecal("show", *words).out for words in ((key, "one"), ("one", key), (key, "--out", "one"))}
    assert len(told) == 1
    assert key in told.pop()
    assert "equal" in bnrecal("verify", "one").out
    assert bnrecal("verify", key[:8], "one").out == bnrecal("verify", "--out", "one", key[:8]).out != ""
    for command in (("report", "one"), ("show", "one", key), ("verify", "one")):
        ran = bnrecal(*command, "--out", "two")
        assert (ran.code, ran.err) == (
            2,
            "bnrecal: --out: two: the same as FOLDER, which is one; give one of them\n",
        )


@pytest.mark.usefixtures("two")
def test_a_folder_named_wins_over_the_environment(
    bnrecal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BNRECAL_OUT is what --out would be, and no second folder."""
    monkeypatch.setenv("BNRECAL_OUT", "two")
    assert "bs 16" in bnrecal("report").out
    assert "bs 16" not in bnrecal("report", "one").out


@pytest.mark.usefixtures("two")
def test_several_folders_make_one_report(bnrecal: Callable[..., Any]) -> None:
    """Every cell once, with the interval that the evidence of its own folder gives."""
    together = json.loads(bnrecal("report", "one", "two", "--format", "json").out)
    alone = [
        row for name in ("one", "two") for row in json.loads(bnrecal("report", name, "--format", "json").out)
    ]
    assert len(alone) == 3
    assert {row["key"]: row["eval_low"] for row in together} == {row["key"]: row["eval_low"] for row in alone}
    assert len(together) == 2
    ran = bnrecal("report", "one", "nowhere")
    assert (ran.code, "no rows in nowhere/rows.jsonl" in ran.err) == (2, True)
    assert "--watch: follows one folder, not 2" in bnrecal("report", "one", "two", "--watch").err
    assert "leave out one" in bnrecal("report", "one", "--published").err


def test_a_failed_cell_gives_way_to_a_done_one(bnrecal: Callable[..., Any]) -> None:
    """Whichever folder comes first."""
    bnrecal(*SWEEP, "--bs", "8", "--out", "failed", "--timeout", "0.00001")
    bnrecal(*SWEEP, "--bs", "8", "--out", "done")
    assert [row["status"] for row in Store(Path("failed")).rows()] == ["failed"]
    for folders in (("failed", "done"), ("done", "failed")):
        (row,) = json.loads(bnrecal("report", *folders, "--format", "json").out)
        assert row["status"] == "done"


@pytest.mark.usefixtures("two")
def test_show_without_a_key_names_some(bnrecal: Callable[..., Any]) -> None:
    """No key and two keys are lines that help; a folder that is not there is named."""
    key = Store(Path("one")).rows()[0]["key"]
    assert bnrecal("show", "one").err == f"bnrecal: KEY: 0 given, one is shown, such as {key}\n"
    assert "KEY: 2 given" in bnrecal("show", "aa", "bb", "one").err
    assert "FOLDER: one and two; one is looked at here" in bnrecal("show", "one", "two").err
    assert "no finished cells in no/where/rows.jsonl" in bnrecal("verify", "no/where").err


@pytest.mark.usefixtures("two")
def test_a_page_goes_to_a_file_unless_it_is_redirected(bnrecal: Callable[..., Any]) -> None:
    """On a terminal beside the rows, and where is said; several folders' page lies here."""
    piped = bnrecal("report", "one", "--format", "html").out
    assert piped.startswith("<!DOCTYPE html>")
    assert not Path("one/report.html").exists()
    assert on_a_terminal("report", "one", "--format", "html") == "one/report.html: open it in a browser"
    assert Path("one/report.html").read_text().startswith("<!DOCTYPE html>")
    assert on_a_terminal("report", "one", "two", "--format", "html") == "report.html: open it in a browser"
    assert Path("report.html").exists()


@pytest.mark.usefixtures("two")
def test_the_name_of_the_file_says_its_format(bnrecal: Callable[..., Any]) -> None:
    """Where no --format does; another ending is the table."""
    for name, kind in (
        ("a.html", "html"),
        ("a.md", "md"),
        ("a.CSV", "csv"),
        ("a.tex", "latex"),
        ("a.txt", "table"),
    ):
        assert bnrecal("report", "one", "-o", name).code == 0
        bnrecal("report", "one", "--format", kind, "-o", "b.json")
        assert Path(name).read_text() == Path("b.json").read_text(), name
    assert bnrecal("report", "one", "-o", "a.json").code == 0
    assert len(json.loads(Path("a.json").read_text())) == 1


@pytest.mark.usefixtures("two")
def test_what_to_do_next_names_the_folder(bnrecal: Callable[..., Any]) -> None:
    """After a sweep its report; where there are no rows, folders that have some."""
    assert "all 1 cell" not in bnrecal(*SWEEP, "--bs", "8", "--out", "one").err
    for bs in ("8", "8,32"):
        ran = bnrecal(*SWEEP, "--bs", bs, "--out", "one")
        assert ran.err.endswith("see `bnrecal report one`\n")
    assert bnrecal(*SWEEP, "--bs", "8", "--out", "deep/er").err.endswith("see `bnrecal report deep/er`\n")
    ran = bnrecal("report")
    assert ran.err == (
        "bnrecal: no rows in results/rows.jsonl; run `bnrecal sweep` first, or name a folder that has some: "
        "deep/er, one and two\n"
    )
    assert bnrecal(*SWEEP, "--bs", "8").err.endswith("see `bnrecal report`\n")


def on_a_terminal(*words: str) -> str:
    """What the command says to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "bnrecal", *words]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    return said.strip()
