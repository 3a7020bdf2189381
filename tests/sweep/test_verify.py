"""Rows traced back and repeated: what `show` prints does the cell again, what `verify` finds is so."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnrecal.errors import BnrecalError
from bnrecal.store.provenance import command_of, row_of_key
from bnrecal.store.rows import line_of
from bnrecal.store.store import Store
from tests.own_images import folder_options, write_class_folders
from tests.store.test_store import row

SMALL = ("--task", "tiny", "--arch", "arch1", "--bs", "8", "--samples", "32,64", "--threads", "1")


def rewrite(rows: list[dict[str, Any]]) -> None:
    Path("results/rows.jsonl").write_bytes(b"".join(map(line_of, rows)))


def printed_command(out: str) -> list[str]:
    return shlex.split(out.rstrip().splitlines()[-1])[1:]


def test_show_prints_a_command_that_repeats_the_row(bnrecal: Callable[..., Any]) -> None:
    """Run as printed, with and without the study file beside the rows, it gives the same key and figures."""
    bnrecal("sweep", *SMALL, "--momentum", "0.05", "--seed", "3")
    wanted = Store(Path("results")).rows()[1]
    ran = bnrecal("show", wanted["key"][:6])
    assert ran.code == 0
    for fact in (wanted["key"], wanted["data_digest"], repr(wanted["eval"]), wanted["environment"]["torch"]):
        assert fact in ran.out
    assert "--study" in ran.out
    check_repeats(bnrecal, printed_command(ran.out), wanted)
    (study,) = Path("results").glob("study-*.toml")
    study.unlink()
    ran = bnrecal("show", wanted["key"][:6])
    assert "--study" not in ran.out
    check_repeats(bnrecal, printed_command(ran.out), wanted)


def check_repeats(bnrecal: Callable[..., Any], command: list[str], wanted: dict[str, Any]) -> None:
    assert bnrecal(*command).code == 0
    (folder,) = Path().glob("again-*")
    (again,) = Store(folder).rows()
    for name in ("key", "update", "eval", "n_samples", "momentum", "seed"):
        assert again[name] == wanted[name]
    shutil.rmtree(folder)


def test_show_as_json_and_its_mistakes(bnrecal: Callable[..., Any]) -> None:
    """The row with its command; no such key and an ambiguous one are one line each."""
    bnrecal("sweep", *SMALL)
    rows = Store(Path("results")).rows()
    shown = json.loads(bnrecal("show", rows[0]["key"], "--format", "json").out)
    assert {name: shown[name] for name in rows[0]} == rows[0]
    assert shlex.split(shown["command"])[:2] == ["bnrecal", "sweep"]
    for key, message in (("nothing", "no row of key 'nothing'"), ("", "begins 2 keys")):
        ran = bnrecal("show", key)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert message in ran.err


def test_a_row_cannot_name_files_elsewhere_or_move_the_cursor(
    bnrecal: Callable[..., Any], tmp_path: Path
) -> None:
    """A study "beside" the rows that is a path is not used; control characters are shown, not sent."""
    (tmp_path / "evil.toml").write_text("")
    Path("results").mkdir()
    evil = row("a", study="../evil.toml", arch="x\x1b[2J$(touch hacked)", error="\x1b]0;title\x07")
    rewrite([evil])
    out = bnrecal("show", "a").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "--study" not in command_of(evil, Path("results"))
    assert "'x\\x1b[2J$(touch hacked)'" in out.splitlines()[-1]  # one quoted word


def test_verify_finds_equal_and_different_cells(bnrecal: Callable[..., Any]) -> None:
    """0 for rows as measured; 4 naming both figures for one that was changed, unless tolerated."""
    bnrecal("sweep", *SMALL)
    before = Path("results/rows.jsonl").read_bytes()
    ran = bnrecal("verify")
    assert (ran.code, ran.out.count(": equal\n")) == (0, 2)
    assert Path("results/rows.jsonl").read_bytes() == before
    rows = Store(Path("results")).rows()
    rewrite([rows[0], {**rows[1], "eval": rows[1]["eval"] + 1e-4}])
    ran = bnrecal("verify")
    assert ran.code == 4
    assert f"eval {rows[1]['eval'] + 1e-4!r} then, {rows[1]['eval']!r} now" in ran.out
    assert "1 of 2 cells equal, 1 different, 0 not repeated" in ran.err
    for allowed in ("--may-differ", "--tolerance"):  # the second is its name of old
        assert bnrecal("verify", allowed, "2e-4").code == 0
    assert bnrecal("verify", rows[0]["key"][:8]).code == 0


def test_verify_says_what_has_changed(bnrecal: Callable[..., Any]) -> None:
    """Other images than at the time: not repeated, and the digest that differs is named; exit code 3."""
    write_class_folders(Path("set"))
    options = ("--model", "timm:resnet10t", "--bs", "4", "--samples", "16")
    ran = bnrecal("sweep", *folder_options(Path("set")), *options)
    assert ran.code == 0, ran.err
    assert bnrecal("verify").code == 0
    next(Path("set/train/cat").iterdir()).unlink()
    ran = bnrecal("verify")
    assert ran.code == 3
    assert "not repeated: data_digest was" in ran.out
    rewrite([{**Store(Path("results")).rows()[0], "seed": 1}])
    assert bnrecal("verify").code == 3


def test_verify_needs_finished_cells(bnrecal: Callable[..., Any]) -> None:
    """An empty folder is bad input, one line."""
    ran = bnrecal("verify", "--out", "nothing")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "no finished cells" in ran.err


def test_whole_keys_beat_longer_ones() -> None:
    """A key that begins another one can still be named."""
    rows = [row("ab"), row("abc")]
    assert row_of_key(rows, "ab") == rows[0]
    with pytest.raises(BnrecalError, match="begins 2 keys"):
        row_of_key(rows, "a")


def test_the_command_of_a_row_is_for_that_cell_alone(bnrecal: Callable[..., Any]) -> None:
    """Though its study has several orders of the images and the reference beside its grid."""
    grid = ("--task", "tiny", "--arch", "arch1", "--bs", "8", "--samples", "64", "--threads", 1)
    assert bnrecal("sweep", *grid, "--repeats", 2, "--reference").code == 0
    for one in Store(Path("results")).rows():
        assert bnrecal(*printed_command(bnrecal("show", one["key"]).out)).code == 0
        (again,) = Store(Path(f"again-{one['key'][:8]}")).rows()
        assert (again["key"], again["eval"]) == (one["key"], one["eval"])
